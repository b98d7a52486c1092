-- Upkeep that must not wait for traffic: dead letters past their age, tombstones past their time, due and expired
-- messages. Bounded in each call; returns how many dead letters went.
--
-- ARGV[3] age of dead letters in microseconds   ARGV[4] grace after a restart, in microseconds
-- ARGV[5] losses after which a message is dead   ARGV[6] dead letters kept a queue   ARGV[7] lease in microseconds

local now_us = clock_us()
local gone = 0
redis.call('ZREMRANGEBYSCORE', TOMBSTONES, '-inf', now_us)
for _, queue in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local dead = dead_of(queue)
  local old = redis.call('ZRANGEBYSCORE', dead, '-inf', now_us - tonumber(ARGV[3]), 'LIMIT', 0, CHUNK)
  if #old > 0 then
    redis.call('ZREM', dead, unpack(old))
    redis.call('HDEL', letters_of(queue), unpack(old))
    gone = gone + #old
  end
  -- Permits whose lease is gone: there are none, unless a worker of a version without lanes ended the lease.
  for _, lane in ipairs(redis.call('SMEMBERS', lanes_of(queue))) do
    local freed = 0
    for _, id in ipairs(redis.call('SMEMBERS', held_of(lane))) do
      if not redis.call('ZSCORE', LEASES, id) then freed = freed + redis.call('SREM', held_of(lane), id) end
    end
    if freed > 0 and rehead(lane) then wake(lane, freed) end
  end
end
local _, _, restarted_us = read_generation()
-- A lease cannot end later than one lease from now, unless the server's clock was set back: then it ends that soon.
local latest_us = now_us + tonumber(ARGV[7])
local ahead = redis.call('ZRANGEBYSCORE', LEASES, latest_us + 1000000, '+inf', 'LIMIT', 0, CHUNK)
for _, id in ipairs(ahead) do redis.call('ZADD', LEASES, latest_us, id) end
expire(now_us, restarted_us, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
promote(now_us, 500)
return gone
