-- Puts messages on the bus: one or a thousand, in order, each at most once.
--
-- ARGV[3]  producer: one name per thread of a process that sends
-- ARGV[4]  number of this call; the producer counts up. The same number again (its reply was lost) gets the same
--          reply and does nothing; a lower one (it lay about in the network) is refused.
-- ARGV[5]  how long the answer is remembered, in milliseconds
-- ARGV[6]  number of queues or lanes, then their names, then per message: id, record, index of its queue, when
--          when: '' now; 'd<us>' after that long; 'e<us>' at that time; 'a<us>' now, having arrived then (rebuild)
--
-- Returns one character a message: '1' taken, '0' is there already (same or later attempt), 'x' cancelled before.

local memory = P .. 'producer:' .. ARGV[3]
local call = tonumber(ARGV[4])
local last = redis.call('GET', memory)
if last then
  local cut = string.find(last, ' ', 1, true)
  local last_call = tonumber(string.sub(last, 1, cut - 1))
  if last_call == call then return string.sub(last, cut + 1) end
  if last_call > call then return redis.error_reply('STALECALL a later call of this producer was executed') end
end

local queue_count = tonumber(ARGV[6])
local names = {}
for i = 1, queue_count do names[i] = ARGV[6 + i] end
local base = 6 + queue_count
local count = (#ARGV - base) / 4

local ids = {}
for i = 1, count do ids[i] = ARGV[base + 4 * i - 3] end
local present = read_fields(MESSAGES, ids)
local tombs = nil
if redis.call('EXISTS', TOMBSTONES) == 1 then
  tombs = {}
  for i, id in ipairs(ids) do tombs[i] = redis.call('ZSCORE', TOMBSTONES, id) end
end

local now_us = clock_us()
local arrival_us = math.max(now_us, (tonumber(redis.call('GET', CLOCK) or '0')) + 1)
local first_arrival_us = arrival_us

local answers, records, seen, replaced = {}, {}, {}, {}
local waiting, delayed = {}, {}
for i = 1, queue_count do waiting[i], delayed[i] = {}, {} end

for i = 1, count do
  local id, record = ids[i], ARGV[base + 4 * i - 2]
  local q, when = tonumber(ARGV[base + 4 * i - 1]), ARGV[base + 4 * i]
  local old = seen[id] or present[i]
  if tombs and tombs[i] and tonumber(tombs[i]) > now_us then
    answers[i] = 'x'
  elseif old and attempt_of(old) >= attempt_of(record) then
    answers[i] = '0'
  else
    if old then
      -- A later attempt replaces an earlier one that is still here, whoever holds it: its answer will be stale.
      redis.call('ZREM', LEASES, id)
      for _, place in ipairs(places(queue_of(names[q]))) do
        replaced[place] = replaced[place] or 0
        redis.call('ZREM', waiting_of(place), id)
        redis.call('ZREM', delayed_of(place), id)
      end
      local value = redis.call('HGET', DELIVERIES, id)
      if value then
        local fence, _, losses, score, queue = read_delivery(value)
        redis.call('HSET', DELIVERIES, id, delivery(fence, '-', losses_of(losses), score, queue))
        if unhold(queue, id) then replaced[queue] = (replaced[queue] or 0) + 1 end
      end
    end
    answers[i] = '1'
    seen[id] = record
    records[#records + 1] = id
    records[#records + 1] = record
    local due_us = nil
    local arrived_us = arrival_us
    -- Delays count from now, not from the arrival: that one runs ahead after the server's clock was set back.
    local sent_us = now_us + arrival_us - first_arrival_us
    arrival_us = arrival_us + 1
    if when ~= '' then
      if string.sub(when, 1, 1) == 'a' then
        arrived_us = tonumber(string.sub(when, 2))
      else
        due_us = due_of(when, sent_us)
      end
    end
    local list = due_us and delayed[q] or waiting[q]
    list[#list + 1] = due_us or score_of(arrived_us, priority_of(record))
    list[#list + 1] = id
  end
end

local answer = table.concat(answers)
redis.call('SET', memory, ARGV[4] .. ' ' .. answer, 'PX', ARGV[5])
if arrival_us > first_arrival_us then redis.call('SET', CLOCK, digits(arrival_us - 1)) end
if #records > 0 then in_chunks('HSET', MESSAGES, records, 2) end
local pauses = redis.call('EXISTS', PAUSED) == 1
for q, queue in ipairs(names) do
  local list = waiting[q]
  if #list > 0 then
    in_chunks('ZADD', waiting_of(queue), list, 2)
    if pauses then
      if rehead(queue) then wake(queue, #list / 2) end
      know(queue)
    else
      local best = list[1]
      for i = 3, #list, 2 do if list[i] < best then best = list[i] end end
      if redis.call('ZADD', HEADS, 'LT', best, queue) == 1 then know(queue) end
      wake(queue, #list / 2)
    end
  end
  list = delayed[q]
  if #list > 0 then
    in_chunks('ZADD', delayed_of(queue), list, 2)
    local first = list[1]
    for i = 3, #list, 2 do if list[i] < first then first = list[i] end end
    know(queue)
    if redis.call('ZADD', DUE, 'LT', 'CH', first, queue) > 0 then wake(queue, 8) end
  end
end
for queue, freed in pairs(replaced) do
  if rehead(queue) and freed > 0 then wake(queue, freed) end
  redue(queue)
end
return answer
