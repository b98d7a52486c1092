-- Drops messages of one queue, wherever they are; at most a few thousand a call. Returns how many; 0: it is empty.
--
-- ARGV[3] queue

local queue = ARGV[3]
local dropped = 0
for _, key in ipairs({ waiting_of(queue), delayed_of(queue) }) do
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
    if name == queue then
      redis.call('ZREM', LEASES, ids[i])
      redis.call('HDEL', MESSAGES, ids[i])
      redis.call('HDEL', DELIVERIES, ids[i])
      dropped = dropped + 1
    end
  end
end
redis.call('DEL', dead_of(queue), letters_of(queue), wake_of(queue))
rehead(queue)
redue(queue)
return dropped
