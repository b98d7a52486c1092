-- Stops or resumes the handing out of one queue. Sending to it, delays and leases go on.
--
-- ARGV[3] queue   ARGV[4] '1' pause, '0' resume

local queue = ARGV[3]
if ARGV[4] == '1' then
  redis.call('ZREM', HEADS, unpack(places(queue)))
  redis.call('SADD', PAUSED, queue)
else
  redis.call('SREM', PAUSED, queue)
  for _, place in ipairs(places(queue)) do
    if rehead(place) then wake(place, redis.call('ZCARD', waiting_of(place))) end
  end
end
return 1
