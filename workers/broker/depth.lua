-- Counts one queue with its lanes: {waiting, delayed, leased, dead, paused, next due in us (-1: none), then per priority that has
-- waiting messages: priority, count, age of its oldest in us}.
--
-- ARGV[3] queue   ARGV[4] '1': strict order, so that priorities are ranges of scores; '0': they overlap, and the first
-- 1,000 waiting messages are looked at (enough to see who starves: the oldest of a queue are at its head).

local queue = ARGV[3]
local now_us = clock_us()
local leased = 0
local ids = redis.call('ZRANGE', LEASES, 0, -1)
local values = read_fields(DELIVERIES, ids)
for i = 1, #ids do
  if values[i] then
    local _, _, _, _, name = read_delivery(values[i])
    if queue_of(name) == queue then leased = leased + 1 end
  end
end
local counts, oldest = {}, {}
local function add(priority, count, arrived_us)
  counts[priority] = (counts[priority] or 0) + count
  if not oldest[priority] or arrived_us < oldest[priority] then oldest[priority] = arrived_us end
end
local waiting_count, delayed_count, due_us = 0, 0, nil
for _, place in ipairs(places(queue)) do
  local waiting, delayed = waiting_of(place), delayed_of(place)
  waiting_count = waiting_count + redis.call('ZCARD', waiting)
  delayed_count = delayed_count + redis.call('ZCARD', delayed)
  local due = tonumber(redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2])
  if due and (not due_us or due < due_us) then due_us = due end
  if ARGV[4] == '1' then
    for priority = 10, 1, -1 do
      local low = score_of(EPOCH_US, priority)
      local high = '(' .. digits(low + STEP_US)
      local head = redis.call('ZRANGEBYSCORE', waiting, low, high, 'WITHSCORES', 'LIMIT', 0, 1)
      if head[2] then add(priority, redis.call('ZCOUNT', waiting, low, high), tonumber(head[2]) - low + EPOCH_US) end
    end
  else
    local flat = redis.call('ZRANGE', waiting, 0, CHUNK - 1, 'WITHSCORES')
    local names = {}
    for i = 1, #flat, 2 do names[#names + 1] = flat[i] end
    local records = read_fields(MESSAGES, names)
    for i = 1, #names do
      if records[i] then
        local priority = priority_of(records[i])
        add(priority, 1, tonumber(flat[2 * i]) + EPOCH_US - (5 - priority) * STEP_US)
      end
    end
  end
end
local reply = {
  waiting_count, delayed_count, leased, redis.call('ZCARD', dead_of(queue)),
  redis.call('SISMEMBER', PAUSED, queue), due_us and math.max(due_us - now_us, 0) or -1,
}
for priority = 10, 1, -1 do
  if counts[priority] then
    reply[#reply + 1] = priority
    reply[#reply + 1] = counts[priority]
    reply[#reply + 1] = math.max(now_us - oldest[priority], 0)
  end
end
return reply
