-- Wakes one worker process: its own blocked pop ends. Servers end a pop's time-out only ten times a second, too late
-- for a delayed message; and cutting the connection instead might lose a token.
--
-- ARGV[3] owner

local key = P .. 'poke:' .. ARGV[3]
redis.call('DEL', key)
redis.call('RPUSH', key, '1')
redis.call('PEXPIRE', key, 10000)
return 1
