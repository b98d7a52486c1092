-- Takes one message off the bus, exactly (cancel).
--
-- ARGV[3] queue   ARGV[4] id   ARGV[5] how long a tombstone stands, in microseconds
--
-- Returns {1} removed (it waited or was delayed, and will not run); {2} leased (a worker has it: signal that one);
-- {0} absent: a tombstone now makes enqueue refuse it, so a copy still on its way cannot run either. With {1}, if a
-- worker vanished with its last delivery: that one's number and the worker. (Called again because the answer was lost it
-- is absent, and that is forgotten.)

local queue, id = ARGV[3], ARGV[4]
for _, place in ipairs(places(queue)) do
  local waited = redis.call('ZREM', waiting_of(place), id)
  local delayed = redis.call('ZREM', delayed_of(place), id)
  if waited + delayed > 0 then
    local value = redis.call('HGET', DELIVERIES, id)
    redis.call('HDEL', MESSAGES, id)
    redis.call('HDEL', DELIVERIES, id)
    if waited > 0 then rehead(place) else redue(place) end
    if not value then return { 1 } end
    local fence, holder, losses = read_delivery(value)
    local lost = lost_with(holder, losses)
    return lost and { 1, fence, lost } or { 1 }
  end
end
if redis.call('ZSCORE', LEASES, id) then return { 2 } end
local now_us = clock_us()
redis.call('ZREMRANGEBYSCORE', TOMBSTONES, '-inf', now_us)
redis.call('ZADD', TOMBSTONES, now_us + tonumber(ARGV[5]), id)
return { 0 }
