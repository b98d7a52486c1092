-- Takes a named lock for one delivery of one task, or says who has it.
--
-- ARGV[3] name   ARGV[4] fence of the delivery   ARGV[5] run: "owner:fence:claim", one delivery   ARGV[6] task id
-- ARGV[7] milliseconds until it falls free unless renewed   ARGV[8] '1': the task will ask again (its wait is timed)
--
-- Returns {1, token, microseconds waited}, or {0, id of the task that has it, microseconds waited}.
-- {2, '', 0}: nobody yet: the data was lost under living workers a moment ago, and holders have not renewed yet.
-- The same run again (its reply was lost) gets the same token. A later delivery of the task that has it takes it over:
-- the bus has ended the earlier one. Tokens grow, and beyond those of before a loss of the data, by the server's clock.

local name, task = ARGV[3], ARGV[6]
local lock, waits = P .. 'lock:' .. name, P .. 'lock:' .. name .. ':waits'
local metrics = P .. 'lock_metrics'
local now_us = clock_us()

local held = redis.call('GET', lock)
local token, fence, run, holder
if held then token, fence, run, holder = string.match(held, '^(%d+) (%d+) (%S+) (.*)$') end
if held and run == ARGV[5] and holder == task then return { 1, token, 0 } end

local since_us = tonumber(redis.call('ZSCORE', waits, task) or now_us)
if held and not (holder == task and tonumber(ARGV[4]) > tonumber(fence)) then
  if ARGV[8] ~= '1' or redis.call('ZADD', waits, 'NX', now_us, task) == 1 then
    redis.call('HINCRBY', metrics, name .. ' held', 1)
  end
  if ARGV[8] == '1' then
    redis.call('ZREMRANGEBYRANK', waits, 0, -10001) -- those who asked first and never came again
    redis.call('PEXPIRE', waits, 86400000)
  end
  return { 0, holder, now_us - since_us }
end

local _, _, _, emptied_us = read_generation()
local rest_us = math.min(tonumber(ARGV[7]) / 2, 10000) * 1000 -- holders renew after a third, and after 5 s at most
if not held and emptied_us > 0 and now_us < emptied_us + rest_us then return { 2, '', 0 } end

redis.call('ZREM', waits, task) -- first: it frees, and so opens the script for writes on a full server
token = math.max(now_us, tonumber(redis.call('HGET', P .. 'lock_tokens', name) or '0') + 1)
redis.call('HSET', P .. 'lock_tokens', name, digits(token))
redis.call('SET', lock, digits(token) .. ' ' .. ARGV[4] .. ' ' .. ARGV[5] .. ' ' .. task, 'PX', ARGV[7])
redis.call('HINCRBY', metrics, name .. ' acquired', 1)
redis.call('HINCRBY', metrics, name .. ' waited_us', digits(now_us - since_us))
return { 1, digits(token), now_us - since_us }
