-- Stops or resumes the handing out of one queue. Sending to it, delays and leases go on.
--
-- ARGV[3] queue   ARGV[4] '1' pause, '0' resume

local queue = ARGV[3]
if ARGV[4] == '1' then
  redis.call('ZREM', HEADS, queue)
  redis.call('SADD', PAUSED, queue)
else
  redis.call('SREM', PAUSED, queue)
  if rehead(queue) then wake(queue, redis.call('ZCARD', waiting_of(queue))) end
end
return 1
