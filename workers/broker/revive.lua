-- Takes away the tombstone of a message. ARGV[3] id. Returns 1 if there was one.

return redis.call('ZREM', TOMBSTONES, ARGV[3])
