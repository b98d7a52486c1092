-- Drops messages of one queue and its lanes, wherever they are; at most a few thousand a call. Returns how many; 0: it is empty.
--
-- ARGV[3] queue

local queue = ARGV[3]
local dropped = 0
local names, keys = places(queue), {}
for _, place in ipairs(names) do
  keys[#keys + 1] = waiting_of(place)
  keys[#keys + 1] = delayed_of(place)
end
for _, key in ipairs(keys) do
  for _ = 1, 5 do
    local ids = redis.call('ZRANGE', key, 0, CHUNK - 1)
    if #ids == 0 then break end
    redis.call('ZREMRANGEBYRANK', key, 0, #ids - 1)
    redis.call('HDEL', MESSAGES, unpack(ids))
    redis.call('HDEL', DELIVERIES, unpack(ids))
    dropped = dropped + #ids
  end
end
local ids = redis.call('ZRANGE', LEASES, 0, -1)
local values = read_fields(DELIVERIES, ids)
for i = 1, #ids do
  if values[i] then
    local _, _, _, _, name = read_delivery(values[i])
    if queue_of(name) == queue then
      unhold(name, ids[i])
      redis.call('ZREM', LEASES, ids[i])
      redis.call('HDEL', MESSAGES, ids[i])
      redis.call('HDEL', DELIVERIES, ids[i])
      dropped = dropped + 1
    end
  end
end
redis.call('DEL', dead_of(queue), letters_of(queue), wake_of(queue))
for _, place in ipairs(names) do
  rehead(place)
  redue(place)
end
return dropped
