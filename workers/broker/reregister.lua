-- Puts the messages that a live worker is running back on a server that lost them, leased to that worker.
--
-- ARGV[3] owner   ARGV[4] lease in microseconds   then per message: id, "fence:claim", losses, score, queue (its lane), record
--
-- Returns per message: 1 leased to the caller; -1 another has taken it meanwhile.
-- If somebody has published the message again but nobody has taken it, the publication gives way to the lease.

local owner = ARGV[3]
local until_us = clock_us() + tonumber(ARGV[4])
local answers = {}
redis.call('ZREM', LEASES, '') -- removes nothing: opens the script for writes on a full server
for first = 5, #ARGV, 6 do
  local id, fence, losses = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  local score, queue, record = ARGV[first + 3], ARGV[first + 4], ARGV[first + 5]
  local value = redis.call('HGET', DELIVERIES, id)
  local holder = '-'
  if value then
    local _, name = read_delivery(value)
    holder = name
  end
  if holder ~= '-' and holder ~= owner then
    answers[#answers + 1] = -1
  else
    know(queue)
    for _, place in ipairs(places(queue_of(queue))) do -- who published it may know another limit than who runs it
      if redis.call('ZREM', delayed_of(place), id) == 1 then redue(place) end
      if redis.call('ZREM', waiting_of(place), id) == 1 then rehead(place) end
    end
    redis.call('HSETNX', MESSAGES, id, record)
    redis.call('HSET', DELIVERIES, id, delivery(fence, owner, losses, score, queue))
    redis.call('ZADD', LEASES, until_us, id)
    hold(queue, id)
    answers[#answers + 1] = 1
  end
end
return answers
