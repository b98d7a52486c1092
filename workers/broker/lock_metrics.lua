-- Returns what was counted of all locks: flat pairs of "name counter" and number.

return redis.call('HGETALL', P .. 'lock_metrics')
