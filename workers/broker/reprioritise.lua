-- Gives a message that waits or is delayed another priority; its place among its new equals is by its arrival.
--
-- ARGV[3] queue   ARGV[4] id   ARGV[5] priority, 1 to 10
--
-- Returns 1 changed; 2 leased, unchanged; 0 absent.

local queue, id, priority = ARGV[3], ARGV[4], tonumber(ARGV[5])
local record = redis.call('HGET', MESSAGES, id)
if not record then return 0 end
if redis.call('ZSCORE', LEASES, id) then return 2 end
for _, place in ipairs(places(queue)) do
  local score = redis.call('ZSCORE', waiting_of(place), id)
  if score or redis.call('ZSCORE', delayed_of(place), id) then
    local changed = string.sub(record, 1, 1) .. string.char(96 + priority) .. string.sub(record, 3)
    redis.call('HSET', MESSAGES, id, changed)
    if score then
      redis.call('ZADD', waiting_of(place), tonumber(score) + (priority_of(record) - priority) * STEP_US, id)
      rehead(place)
    end
    return 1
  end
end
return 0
