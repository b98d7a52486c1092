-- Prolongs locks, and tells which of them were lost.
--
-- ARGV[3...] per lock: name, value as it was stored, its token, milliseconds until it falls free
--
-- Returns per lock 1, or 0: another has it, or had it since. One that fell free, or went with the server's data, is
-- taken again, under its token, if nobody had it since.

local answers = {}
redis.call('ZREM', LEASES, '') -- removes nothing: opens the script for writes on a full server
for i = 3, #ARGV, 4 do
  local name, value, token, ttl_ms = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local lock = P .. 'lock:' .. name
  local held = redis.call('GET', lock)
  local last = redis.call('HGET', P .. 'lock_tokens', name)
  if held == value then
    redis.call('PEXPIRE', lock, ttl_ms)
    answers[#answers + 1] = 1
  elseif not held and (not last or last == token) then
    redis.call('HSET', P .. 'lock_tokens', name, token)
    redis.call('SET', lock, value, 'PX', ttl_ms)
    answers[#answers + 1] = 1
  else
    redis.call('HINCRBY', P .. 'lock_metrics', name .. ' lost', 1)
    answers[#answers + 1] = 0
  end
end
return answers
