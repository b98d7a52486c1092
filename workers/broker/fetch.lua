-- Takes up to `room` messages for one worker process: the best of all its queues, in strict order of score.
--
-- On its way, and on every call of every live worker, it promotes what is due and ends what leases have expired:
-- by rule, not by chance. Its cost grows with the messages taken; an index of queue heads spares looking into queues.
--
-- ARGV[3]  owner: the worker process
-- ARGV[4]  number of this claim; the owner counts up. The same number again (its reply was lost) hands out the same
--          messages; a lower one gets nothing.
-- ARGV[5]  '1': remember this claim even if it is empty (after a fault, when late copies may be on their way)
-- ARGV[6]  room   ARGV[7] lease in microseconds   ARGV[8] grace after a restart, in microseconds
-- ARGV[9]  losses after which a message is dead (0: never)   ARGV[10] dead letters kept a queue
-- ARGV[11] the queue whose wake-up token this process took last ('': none since its last fetch)
-- ARGV[12] how many processes have taken that token, with this one
-- ARGV[13] number of queues served, then their names, then the limits this worker knows: "actor\nconcurrency rate per_us"
--          (0: no such limit), or "actor\n-": an actor that it does not know, so that it takes nothing of its lane
--
-- A lane (the messages of one limited actor) is one more source, as long as it has permits: `concurrency` less what is
-- leased of it, and `rate` less what was started of it in the last `per_us`. Whatever the lane has beyond that is passed
-- over, and the order of all else is as if it were not there. The limit that counts is the one sent here: nothing is
-- stored that an emptied server would lose or a deploy leave behind, and a worker that knows no limit has none.
--
-- Returns {generation, since_us, microseconds to the next event (-1: none), then per message: id, record, delivery}.

local owner, claim, room = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])
local lease_us, grace_us = tonumber(ARGV[7]), tonumber(ARGV[8])
local now_us = clock_us()
local generation, since_us, restarted_us, emptied_us = read_generation()
local reply = { generation, since_us, -1 }

local memory = P .. 'claim:' .. owner
local last = redis.call('GET', memory)
if last then
  local last_claim = tonumber(string.match(last, '^%d+'))
  if last_claim > claim then return reply end
  if last_claim == claim then
    local ids = {}
    for id in string.gmatch(last, '\n([^\n]+)') do ids[#ids + 1] = id end
    local values, records = read_fields(DELIVERIES, ids), read_fields(MESSAGES, ids)
    for i, id in ipairs(ids) do
      if values[i] and records[i] then
        local _, holder = read_delivery(values[i])
        if holder == owner and redis.call('ZSCORE', LEASES, id) then
          local n = #reply
          reply[n + 1], reply[n + 2], reply[n + 3] = id, records[i], values[i]
        end
      end
    end
    reply[3] = 0
    return reply
  end
end

expire(now_us, restarted_us, grace_us, tonumber(ARGV[9]), tonumber(ARGV[10]))
promote(now_us, 500)

local served, limits = {}, {}
local queue_count = tonumber(ARGV[13])
for i = 14, 13 + queue_count do served[ARGV[i]] = true end
for i = 14 + queue_count, #ARGV do
  local cut = string.find(ARGV[i], '\n', 1, true)
  limits[string.sub(ARGV[i], 1, cut - 1)] = string.sub(ARGV[i], cut + 1)
end

-- Lanes with a rate that were met in this fetch: lane → {rate, per_us}.
local permit_us, rated = nil, {}
-- A lane that was passed over because its actor is not known here.
local left_to_others

-- How many messages of a lane may be handed out now.
local function permits(lane, actor)
  local spec = limits[actor]
  if not spec then return math.huge end
  if spec == '-' then
    left_to_others = lane
    return 0
  end
  local concurrency, rate, per_us = string.match(spec, '^(%d+) (%d+) (%d+)$')
  concurrency, rate, per_us = tonumber(concurrency), tonumber(rate), tonumber(per_us)
  local free = math.huge
  if concurrency > 0 then
    -- What ran when the data went is not registered again yet; counting now would find every permit free. No generation:
    -- the data went under the caller's open connection, and it will begin one next.
    if generation == 0 then return 0 end
    if now_us < emptied_us + grace_us then
      permit_us = math.min(permit_us or emptied_us + grace_us, emptied_us + grace_us)
      return 0
    end
    free = math.min(free, concurrency - redis.call('SCARD', held_of(lane)))
  end
  if rate > 0 and free > 0 then
    local starts = starts_of(lane)
    redis.call('ZREMRANGEBYSCORE', starts, '-inf', now_us - per_us)
    redis.call('ZREMRANGEBYSCORE', starts, now_us + 1000000, '+inf') -- the server's clock was set back
    free = math.min(free, rate - redis.call('ZCARD', starts))
    rated[lane] = { rate, per_us }
  end
  return math.max(free, 0)
end

-- Greedy merge. Heads are sorted, so a queue is opened only when its head is the best left; an opened queue is read
-- in chunks. A source is {queue, permits (of a lane), flat chunk, position in it, taken, short: nothing behind the chunk}.
-- `heap` has the sources with the scores of their next messages, the best on top: what a message costs grows with the
-- logarithm of the queues.
local ids, scores, queues, taken = {}, {}, {}, 0
local opened = {}
local heap, heap_scores, heap_size = {}, {}, 0
local page, at, offset = redis.call('ZRANGE', HEADS, 0, 15, 'WITHSCORES'), 1, 0
local chunk = room
if #page > 2 then chunk = math.min(room, math.ceil(2 * room / #page) + 1) end

local function next_head()
  while true do
    if at > #page then
      if #page < 32 then return nil end
      offset = offset + 16
      page, at = redis.call('ZRANGE', HEADS, offset, offset + 15, 'WITHSCORES'), 1
      if #page == 0 then return nil end
    end
    local name = page[at]
    if served[name] then return name, tonumber(page[at + 1]) end
    local cut = string.find(name, '|', 1, true)
    if cut and served[string.sub(name, 1, cut - 1)] then
      local free = permits(name, string.sub(name, cut + 1))
      if free > 0 then return name, tonumber(page[at + 1]), free end
    end
    at = at + 2
  end
end

local function read_chunk(source)
  local flat = redis.call('ZRANGE', source.waiting, source.taken, source.taken + chunk - 1, 'WITHSCORES')
  source.flat, source.at, source.short = flat, 1, #flat < 2 * chunk
  return tonumber(flat[2])
end

-- Puts a source whose next message has this score where it belongs, from the top or (a new one) from the bottom.
local function sink(source, score)
  local hole, child = 1, 2
  while child <= heap_size do
    if child < heap_size and heap_scores[child + 1] < heap_scores[child] then child = child + 1 end
    if heap_scores[child] >= score then break end
    heap[hole], heap_scores[hole] = heap[child], heap_scores[child]
    hole, child = child, 2 * child
  end
  heap[hole], heap_scores[hole] = source, score
end

local function rise(source, score)
  heap_size = heap_size + 1
  local hole = heap_size
  while hole > 1 do
    local parent = (hole - hole % 2) / 2
    if heap_scores[parent] <= score then break end
    heap[hole], heap_scores[hole] = heap[parent], heap_scores[parent]
    hole = parent
  end
  heap[hole], heap_scores[hole] = source, score
end

local head_queue, head_score, head_permits = next_head()
while taken < room do
  local best_score = heap_scores[1]
  if head_queue and (heap_size == 0 or head_score < best_score) then
    local source = { queue = head_queue, waiting = waiting_of(head_queue), permits = head_permits, taken = 0 }
    opened[#opened + 1] = source
    local score = read_chunk(source)
    if score then rise(source, score) end
    at = at + 2
    head_queue, head_score, head_permits = next_head()
  elseif heap_size == 0 then
    break
  else
    -- Everything of this queue that is better than the next best source goes in one run.
    local best, score, limit = heap[1], best_score, head_score
    if heap_size > 1 then
      local second = heap_scores[2]
      if heap_size > 2 and heap_scores[3] < second then second = heap_scores[3] end
      if not limit or second < limit then limit = second end
    end
    local flat, place, queue = best.flat, best.at, best.queue
    repeat
      taken = taken + 1
      ids[taken], scores[taken], queues[taken] = flat[place], flat[place + 1], queue
      best.taken = best.taken + 1
      place = place + 2
      if best.taken == best.permits then
        score = nil
      elseif flat[place] then
        score = tonumber(flat[place + 1])
      elseif best.short then
        score = nil
      else
        score = read_chunk(best)
        flat, place = best.flat, 1
      end
    until taken >= room or not score or (limit and score > limit)
    best.at = place
    if score then
      sink(best, score)
    else
      local last, last_score = heap[heap_size], heap_scores[heap_size]
      heap_size = heap_size - 1
      if heap_size > 0 then sink(last, last_score) end
    end
    best.ended = not score
  end
end

local fresh, gone, lanes = {}, {}, false
for i = 1, #opened do
  local source = opened[i]
  if source.taken > 0 then redis.call('ZREMRANGEBYRANK', source.waiting, 0, source.taken - 1) end
  if source.permits then
    lanes = true
    if source.taken > 0 then rehead(source.queue) end
  elseif source.ended or not source.flat[source.at] then
    gone[#gone + 1] = source.queue
  elseif source.taken > 0 then
    fresh[#fresh + 1], fresh[#fresh + 2] = source.flat[source.at + 1], source.queue
  end
end
if #gone > 0 then redis.call('ZREM', HEADS, unpack(gone)) end
if #fresh > 0 then redis.call('ZADD', HEADS, unpack(fresh)) end

if taken > 0 then
  local records = read_fields(MESSAGES, ids)
  -- Every lease has its delivery on record: if there are no more deliveries than leases, nothing that waits was delivered.
  local values = {}
  if redis.call('HLEN', DELIVERIES) > redis.call('ZCARD', LEASES) then values = read_fields(DELIVERIES, ids) end
  local leases, deliveries, claimed = {}, {}, { ARGV[4] }
  local until_us = digits(now_us + lease_us)
  local first_time = '1:' .. ARGV[4] .. ' ' .. owner .. ' 0 '
  local n, k = 3, 0
  for i = 1, taken do
    local id, record = ids[i], records[i]
    if record then
      local fence, value = 1, nil
      if not values[i] and string.sub(record, 3, 7) == '00000' then
        value = first_time .. scores[i] .. ' ' .. queues[i]
      else
        local losses = 0
        fence = 0
        if values[i] then
          local holder
          fence, holder, losses = read_delivery(values[i])
          fence = tonumber(fence)
          local lost = lost_with(holder, losses)
          if lost then losses = losses_of(losses) .. ':' .. lost end
        end
        fence = math.max(fence, attempt_of(record)) + 1
        value = delivery(fence .. ':' .. ARGV[4], owner, losses, scores[i], queues[i])
      end
      leases[k + 1], leases[k + 2] = until_us, id
      deliveries[k + 1], deliveries[k + 2] = id, value
      k = k + 2
      claimed[#claimed + 1] = id
      if lanes then
        hold(queues[i], id)
        local rate = rated[queues[i]]
        if rate then
          redis.call('ZADD', starts_of(queues[i]), now_us, id .. ' ' .. digits(fence))
          redis.call('PEXPIRE', starts_of(queues[i]), math.ceil(rate[2] / 1000) + 1000)
        end
      end
      reply[n + 1], reply[n + 2], reply[n + 3] = id, record, value
      n = n + 3
    end
  end
  if #leases > 0 then
    in_chunks('HSET', DELIVERIES, deliveries, 2)
    in_chunks('ZADD', LEASES, leases, 2)
    redis.call('SET', memory, table.concat(claimed, '\n'), 'PX', math.ceil(4 * lease_us / 1000))
  end
elseif ARGV[5] == '1' then
  redis.call('DEL', memory)
  redis.call('SET', memory, ARGV[4], 'PX', math.ceil(4 * lease_us / 1000))
end

if taken >= room then
  -- More is left than this process can hold: pass the wake-up on, so that the next blocked one comes. It may serve fewer
  -- queues than this one: first of all in the queue that had the token, then in whichever are known to have more.
  local left, keys = {}, {}
  for i = 1, heap_size do left[i] = heap[i].queue end
  left[#left + 1] = head_queue
  if ARGV[11] ~= '' then
    for _, place in ipairs(places(ARGV[11])) do
      if redis.call('ZSCORE', HEADS, place) then left[#left + 1] = place end
    end
  end
  for i = 1, #left do keys[i] = wake_of(queue_of(left[i])) end
  if #left > 0 and redis.call('EXISTS', unpack(keys)) < #left then
    for i = 1, #left do wake(left[i], 1) end
  end
  reply[3] = 0
else
  -- The token may be for somebody who knows that actor: it goes on to who has been blocked longest, from hand to hand at
  -- most so often, so that a fleet of which nobody knows the actor comes to rest.
  if left_to_others and ARGV[11] ~= '' and tonumber(ARGV[12]) < 16 then
    local key = wake_of(queue_of(left_to_others))
    if redis.call('EXISTS', key) == 0 then redis.call('RPUSH', key, digits(ARGV[12] + 1)) end
  end
  local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
  local lease = redis.call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2]
  local next_us = due and tonumber(due)
  if lease then
    local expiry_us = math.max(tonumber(lease), restarted_us + grace_us)
    if not next_us or expiry_us < next_us then next_us = expiry_us end
  end
  for lane, rate in pairs(rated) do
    local starts = starts_of(lane)
    if redis.call('ZCARD', starts) >= rate[1] and redis.call('ZSCORE', HEADS, lane) then
      local oldest_us = tonumber(redis.call('ZRANGE', starts, 0, 0, 'WITHSCORES')[2])
      -- Of a fast rate several permits are waited for: an idle worker looks a hundred times a second, no more.
      local free_us = math.max(oldest_us + rate[2], now_us + 10000)
      permit_us = math.min(permit_us or free_us, free_us)
    end
  end
  if permit_us and (not next_us or permit_us < next_us) then next_us = permit_us end
  if next_us then reply[3] = math.max(next_us - now_us, 0) end
end
return reply
