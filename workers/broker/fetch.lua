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
-- ARGV[11...] the queues served
--
-- Returns {generation, since_us, microseconds to the next event (-1: none), then per message: id, record, delivery}.

local owner, claim, room = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])
local lease_us, grace_us = tonumber(ARGV[7]), tonumber(ARGV[8])
local now_us = clock_us()
local generation, since_us, restarted_us = read_generation()
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

local served = {}
for i = 11, #ARGV do served[ARGV[i]] = true end

-- Greedy merge. Heads are sorted, so a queue is opened only when its head is the best left; an opened queue is read
-- in chunks. `opened` holds {queue, flat chunk, position, taken, exhausted, score of its best}.
local ids, scores, queues, taken = {}, {}, {}, 0
local opened = {}
local page, at, offset = redis.call('ZRANGE', HEADS, 0, 15, 'WITHSCORES'), 1, 0
local chunk = room
if #page > 2 then chunk = math.min(room, math.max(4, math.ceil(4 * room / #page))) end

local function next_head()
  while true do
    if at > #page then
      if #page < 32 then return nil end
      offset = offset + 16
      page, at = redis.call('ZRANGE', HEADS, offset, offset + 15, 'WITHSCORES'), 1
      if #page == 0 then return nil end
    end
    if served[page[at]] then return page[at], tonumber(page[at + 1]) end
    at = at + 2
  end
end

local function read_chunk(source)
  source.flat = redis.call('ZRANGE', waiting_of(source.queue), source.taken, source.taken + chunk - 1, 'WITHSCORES')
  source.at = 1
  source.short = #source.flat < 2 * chunk
  source.score = tonumber(source.flat[2])
end

local head_queue, head_score = next_head()
while taken < room do
  local best = nil
  for i = 1, #opened do
    local source = opened[i]
    if source.score and (not best or source.score < best.score) then best = source end
  end
  if head_queue and (not best or head_score < best.score) then
    best = { queue = head_queue, taken = 0 }
    read_chunk(best)
    opened[#opened + 1] = best
    at = at + 2
    head_queue, head_score = next_head()
  elseif not best then
    break
  else
    -- Everything of this queue that is better than the next best source goes in one run.
    local limit = head_score
    for i = 1, #opened do
      local source = opened[i]
      if source ~= best and source.score and (not limit or source.score < limit) then limit = source.score end
    end
    repeat
      taken = taken + 1
      ids[taken], scores[taken], queues[taken] = best.flat[best.at], best.flat[best.at + 1], best.queue
      best.taken = best.taken + 1
      best.at = best.at + 2
      if best.flat[best.at] then
        best.score = tonumber(best.flat[best.at + 1])
      elseif best.short then
        best.score = nil
      else
        read_chunk(best)
      end
    until taken >= room or not best.score or (limit and best.score > limit)
  end
end

local fresh, gone = {}, {}
for i = 1, #opened do
  local source = opened[i]
  if source.taken > 0 then redis.call('ZREMRANGEBYRANK', waiting_of(source.queue), 0, source.taken - 1) end
  if not source.score then
    gone[#gone + 1] = source.queue
  elseif source.taken > 0 then
    fresh[#fresh + 1], fresh[#fresh + 2] = source.score, source.queue
  end
end
if #gone > 0 then redis.call('ZREM', HEADS, unpack(gone)) end
if #fresh > 0 then redis.call('ZADD', HEADS, unpack(fresh)) end

if taken > 0 then
  local values, records = read_fields(DELIVERIES, ids), read_fields(MESSAGES, ids)
  local leases, deliveries, claimed = {}, {}, { ARGV[4] }
  local until_us = now_us + lease_us
  local n = 3
  for i = 1, taken do
    local id, record = ids[i], records[i]
    if record then
      local fence, losses = 0, 0
      if values[i] then
        local f, _, l = read_delivery(values[i])
        fence, losses = tonumber(f), tonumber(l)
      end
      local attempt = attempt_of(record)
      if attempt > fence then fence = attempt end
      fence = fence + 1
      local k = 2 * #claimed - 1
      leases[k], leases[k + 1] = until_us, id
      local value = delivery(fence, owner, losses, scores[i], queues[i])
      deliveries[k], deliveries[k + 1] = id, value
      claimed[#claimed + 1] = id
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
  -- More is left than this process can hold: pass the wake-up on, so that the next blocked one comes.
  if head_queue then wake(head_queue, 1) end
  for i = 1, #opened do if opened[i].score then wake(opened[i].queue, 1) end end
  reply[3] = 0
else
  local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
  local lease = redis.call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2]
  local next_us = due and tonumber(due)
  if lease then
    local expiry_us = math.max(tonumber(lease), restarted_us + grace_us)
    if not next_us or expiry_us < next_us then next_us = expiry_us end
  end
  if next_us then reply[3] = math.max(next_us - now_us, 0) end
end
return reply
