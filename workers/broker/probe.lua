-- Whether the server takes a write now, as that of who sends: refused by one that is full, a replica, or cannot save.

redis.call('SET', P .. 'probe', '1', 'PX', 10000)
return 1
