-- Ends deliveries: one decision a message, atomically, and only by who holds it.
--
-- ARGV[3] owner   ARGV[4] dead letters kept a queue   then decisions, in order. Of messages that are done, one entry for
-- as many as have the same "fence:claim" (they came in one fetch):
--   'a', "fence:claim", number, ids...   done: they leave the bus
-- of any other, one entry each: verdict, "fence:claim", id, record; the verdict is
--   'x<reason>'  dead: into the dead letters of its queue, as `record` ('' keeps the stored one)
--   'r<when>'    once more, as `record` ('' keeps the stored one): when is '' (now), 'd<us>' or 'e<us>'
--   'b<lane>'    given back unstarted: its first score again, and as if it had not been delivered (a start that its
--                actor's rate was charged with is taken back too); into that lane if one is named, else where it was
--   'w<us>'      put off by that long, uncounted (its actor is unknown here, its version is newer)
--
-- Returns per message: 1 done; 0 no such message (settled before, or the data is lost); 2 this very decision was
-- executed before (its reply was lost); -1 stale: it is no longer this owner's, another decides.
-- A holder whose lease expired may still settle while nobody else has taken the message: its answer is true.

local owner, keep_count = ARGV[3], tonumber(ARGV[4])
local now_us = clock_us()
local answers, touched = {}, {}

local function touch(queue, returned) touched[queue] = (touched[queue] or 0) + returned end

-- What to say about a message that is not held by the caller under that number.
local function refuse(id, record)
  local stored = redis.call('HGET', MESSAGES, id)
  if not stored then return 0 end
  -- Once more, decided by a call whose reply was lost: the later attempt is there.
  if record and attempt_of(stored) > 0 and attempt_of(stored) >= attempt_of(record) then return 2 end
  return -1
end

-- Takes a message out of wherever it is; almost always that is its lease.
local function detach(id, queue)
  if unhold(queue, id) then touch(queue, 1) end
  if redis.call('ZREM', LEASES, id) == 0 then
    redis.call('ZREM', waiting_of(queue), id)
    redis.call('ZREM', delayed_of(queue), id)
    touch(queue, 0)
  end
end

local function acknowledge(token, first, last)
  local values = redis.call('HMGET', DELIVERIES, unpack(ARGV, first, last))
  local done = {}
  for i = first, last do
    local id, value = ARGV[i], values[i - first + 1]
    if value and string.find(value, token, 1, true) == 1 then
      answers[#answers + 1] = 1
      done[#done + 1] = id
      if string.find(value, '|', 1, true) then
        local _, _, _, _, lane = read_delivery(value)
        if unhold(lane, id) then touch(lane, 1) end
      end
    else
      answers[#answers + 1] = refuse(id)
    end
  end
  if #done == 0 then return end
  if redis.call('ZREM', LEASES, unpack(done)) < #done then
    -- Some lease had expired: the message waits again, and must not be handed out after its acknowledgement.
    for i = first, last do
      local value = values[i - first + 1]
      if value and string.find(value, token, 1, true) == 1 then
        local _, _, _, _, queue = read_delivery(value)
        if redis.call('ZREM', waiting_of(queue), ARGV[i]) == 1 then touch(queue, 0) end
      end
    end
  end
  redis.call('HDEL', DELIVERIES, unpack(done))
  redis.call('HDEL', MESSAGES, unpack(done))
end

local function bury_one(id, reason, record, queue)
  if record == '' then record = redis.call('HGET', MESSAGES, id) or '' end
  redis.call('HDEL', DELIVERIES, id)
  redis.call('HDEL', MESSAGES, id)
  bury(queue, id, reason, record, now_us + #answers, keep_count) -- `+ #answers`: in their order
end

local function once_more(id, when, record, queue, number, score)
  if record == '' then record = redis.call('HGET', MESSAGES, id) end
  if not record then
    redis.call('HDEL', DELIVERIES, id)
    return 0
  end
  redis.call('HSET', MESSAGES, id, record)
  redis.call('HSET', DELIVERIES, id, delivery(number, '-', 0, score, queue))
  local due_us = due_of(when, now_us)
  if due_us then
    delay_until(queue, id, due_us)
  else
    redis.call('ZADD', waiting_of(queue), score_of(arrive(now_us), priority_of(record)), id)
    touch(queue, 1)
  end
  return 1
end

-- As if it had not been delivered. delay_us: nil: it waits.
local function give_back(id, queue, lane, number, losses, score, delay_us)
  if string.find(queue, '|', 1, true) then redis.call('ZREM', starts_of(queue), id .. ' ' .. number) end
  if lane ~= '' then
    queue = lane
    know(lane)
  end
  local before = tonumber(number) - 1
  if before > 0 then
    redis.call('HSET', DELIVERIES, id, delivery(before, '-', losses, score, queue))
  else
    redis.call('HDEL', DELIVERIES, id)
  end
  if redis.call('HEXISTS', MESSAGES, id) == 0 then return end
  if delay_us then
    delay_until(queue, id, now_us + delay_us)
  else
    redis.call('ZADD', waiting_of(queue), score, id)
    touch(queue, 1)
  end
end

local function decide(verdict, token, id, record)
  local value = redis.call('HGET', DELIVERIES, id)
  local kind, detail = string.sub(verdict, 1, 1), string.sub(verdict, 2)
  if not value or string.find(value, token, 1, true) ~= 1 then return refuse(id, kind == 'r' and record) end
  local number, _, losses, score, queue = read_delivery(value)
  detach(id, queue)
  if kind == 'r' then return once_more(id, detail, record, queue, number, score) end
  if kind == 'x' then
    bury_one(id, detail, record, queue)
  elseif kind == 'b' then
    give_back(id, queue, detail, number, losses, score)
  else
    give_back(id, queue, '', number, losses, score, tonumber(detail))
  end
  return 1
end

local at = 5
while at <= #ARGV do
  local verdict, token = ARGV[at], ARGV[at + 1] .. ' ' .. owner .. ' '
  if verdict == 'a' then
    local first, last = at + 3, at + 2 + tonumber(ARGV[at + 2])
    for part = first, last, CHUNK do acknowledge(token, part, math.min(part + CHUNK - 1, last)) end
    at = last + 1
  else
    answers[#answers + 1] = decide(verdict, token, ARGV[at + 2], ARGV[at + 3])
    at = at + 4
  end
end

for queue, returned in pairs(touched) do
  if rehead(queue) and returned > 0 then wake(queue, returned) end
end
return answers
