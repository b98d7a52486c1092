-- Says which generation of the server's data this is; begins a new one after a restart, a failover or an emptying.
--
-- ARGV[3] run_id of the server, '' if the user may not ask   ARGV[4] number that the caller knew, 0: none
--
-- Returns {number, since_us}. Called on every new connection, before anything else.

local held = redis.call('HMGET', GENERATION, 'number', 'since_us', 'run_id')
local number, since_us, run_id = tonumber(held[1] or '0'), tonumber(held[2] or '0'), held[3] or ''
local known = tonumber(ARGV[4])
if number > 0 and (ARGV[3] == '' or ARGV[3] == run_id) then
  -- Counting from the first life or after a restart the numbers are neighbours: a leap means that the data went.
  if known > 0 and known + 1000000 < number and redis.call('HEXISTS', GENERATION, 'emptied_us') == 0 then
    redis.call('HDEL', GENERATION, '')
    redis.call('HSET', GENERATION, 'emptied_us', digits(since_us))
  end
  return { number, since_us }
end
local now_us = clock_us()
-- After an emptying the count is lost; the time is later than any count reached by counting.
local restarted_us = now_us
if number == 0 then number, restarted_us = now_us, 0 else number = number + 1 end
redis.call('HDEL', GENERATION, 'run_id')
if known > 0 and restarted_us == 0 then redis.call('HSET', GENERATION, 'emptied_us', digits(now_us)) end
redis.call('HSET', GENERATION, 'number', digits(number), 'since_us', digits(now_us), 'restarted_us',
  digits(restarted_us), 'run_id', ARGV[3])
return { number, now_us }
