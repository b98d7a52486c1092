-- Ends deliveries: one decision a message, atomically, and only by who holds it.
--
-- ARGV[3] owner   ARGV[4] dead letters kept a queue   then per message: id, "fence:claim", verdict, record
--   'a'          done: the message leaves the bus
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
local count = (#ARGV - 4) / 4
local now_us = clock_us()
local ids, answers = {}, {}
for i = 1, count do ids[i] = ARGV[1 + 4 * i] end
local values = read_fields(DELIVERIES, ids)
local touched = {}

-- Takes a message out of wherever it is; almost always that is its lease.
local function detach(id, queue)
  if unhold(queue, id) then touched[queue] = (touched[queue] or 0) + 1 end
  if redis.call('ZREM', LEASES, id) == 0 then
    redis.call('ZREM', waiting_of(queue), id)
    redis.call('ZREM', delayed_of(queue), id)
    touched[queue] = touched[queue] or 0
  end
end

local done = {}
for i = 1, count do
  local id, fence, verdict = ids[i], ARGV[2 + 4 * i], ARGV[3 + 4 * i]
  local token = fence .. ' ' .. owner .. ' '
  local value = values[i]
  local kind = string.sub(verdict, 1, 1)
  if not value or string.sub(value, 1, #token) ~= token then
    local stored = redis.call('HGET', MESSAGES, id)
    if not stored then
      answers[i] = 0
    elseif kind == 'r' and attempt_of(stored) >= attempt_of(ARGV[4 + 4 * i]) and attempt_of(stored) > 0 then
      answers[i] = 2
    else
      answers[i] = -1
    end
  elseif kind == 'a' then
    done[#done + 1] = id
    answers[i] = 1
    if string.find(value, '|', 1, true) then
      local _, _, _, _, lane = read_delivery(value)
      if unhold(lane, id) then touched[lane] = (touched[lane] or 0) + 1 end
    end
  else
    answers[i] = 1
    values[i] = false
    local number, _, losses, score, queue = read_delivery(value)
    detach(id, queue)
    if kind == 'x' then
      local record = ARGV[4 + 4 * i]
      if record == '' then record = redis.call('HGET', MESSAGES, id) or '' end
      redis.call('HDEL', DELIVERIES, id)
      redis.call('HDEL', MESSAGES, id)
      bury(queue, id, string.sub(verdict, 2), record, now_us + i, keep_count) -- `+ i`: in their order
    elseif kind == 'r' then
      local record = ARGV[4 + 4 * i]
      if record == '' then record = redis.call('HGET', MESSAGES, id) end
      local due_us = due_of(string.sub(verdict, 2), now_us)
      if record then
        redis.call('HSET', MESSAGES, id, record)
        redis.call('HSET', DELIVERIES, id, delivery(number, '-', 0, score, queue))
      end
      if not record then
        redis.call('HDEL', DELIVERIES, id)
        answers[i] = 0
      elseif due_us then
        delay_until(queue, id, due_us)
      else
        redis.call('ZADD', waiting_of(queue), score_of(arrive(now_us), priority_of(record)), id)
        touched[queue] = (touched[queue] or 0) + 1
      end
    else
      if string.find(queue, '|', 1, true) then redis.call('ZREM', starts_of(queue), id .. ' ' .. number) end
      local lane = kind == 'b' and string.sub(verdict, 2) or ''
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
      if redis.call('HEXISTS', MESSAGES, id) == 1 then
        if kind == 'w' then
          delay_until(queue, id, now_us + tonumber(string.sub(verdict, 2)))
        else
          redis.call('ZADD', waiting_of(queue), score, id)
          touched[queue] = (touched[queue] or 0) + 1
        end
      end
    end
  end
end

if #done > 0 then
  if in_chunks('ZREM', LEASES, done) < #done then
    -- Some lease had expired: the message waits again, and must not be handed out after its acknowledgement.
    for i = 1, count do
      if answers[i] == 1 and values[i] then
        local _, _, _, _, queue = read_delivery(values[i])
        if redis.call('ZREM', waiting_of(queue), ids[i]) == 1 then touched[queue] = touched[queue] or 0 end
      end
    end
  end
  in_chunks('HDEL', DELIVERIES, done)
  in_chunks('HDEL', MESSAGES, done)
end

for queue, returned in pairs(touched) do
  if rehead(queue) and returned > 0 then wake(queue, returned) end
end
return answers
