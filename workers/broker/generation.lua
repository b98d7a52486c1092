-- Says which generation of the server's data this is; begins a new one after a restart, a failover or an emptying.
--
-- ARGV[3] run_id of the server, '' if the user may not ask
--
-- Returns {number, since_us}. Called on every new connection, before anything else.

local held = redis.call('HMGET', GENERATION, 'number', 'since_us', 'run_id')
local number, since_us, run_id = tonumber(held[1] or '0'), tonumber(held[2] or '0'), held[3] or ''
if number > 0 and (ARGV[3] == '' or ARGV[3] == run_id) then return { number, since_us } end
local now_us = clock_us()
-- After an emptying the count is lost; the time is later than any count reached by counting.
local restarted_us = now_us
if number == 0 then number, restarted_us = now_us, 0 else number = number + 1 end
redis.call('HDEL', GENERATION, 'run_id')
redis.call('HSET', GENERATION, 'number', digits(number), 'since_us', digits(now_us), 'restarted_us',
  digits(restarted_us), 'run_id', ARGV[3])
return { number, now_us }
