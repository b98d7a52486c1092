-- Shared by every script of the bus: put in front of each one before it is loaded.
--
-- Holds: key names, the clock, scores, and the moves that several scripts make (promote, expire, rehead, wake).
-- Must not hold: a decision about one message; that is the business of the script behind it.
--
-- KEYS[1]  prefix of every key, hash tag included. All other keys are in the same slot, hence built here.
-- ARGV[1]  microseconds added to the server's clock (tests let time jump; 0 otherwise)
-- ARGV[2]  ageing: how many microseconds of waiting one step of priority is worth
--
-- Rule of the house: the first write of a script that drains frees memory (ZREM, HDEL, ZREMRANGEBYRANK), because
-- a server over `maxmemory` refuses a script whose first write could grow, and lets all later ones pass.
--
-- Scores are whole microseconds below 2^53, hence exact in a double; Lua's own tostring keeps 14 digits only, so
-- a number that becomes text goes through `digits`. Numbers handed to redis.call are printed exactly by the server.

local P = KEYS[1]
local STEP_US = tonumber(ARGV[2])
local EPOCH_US = 1735689600000000 -- 2025-01-01: scores count from here, which leaves 57 years of strict order
local CHUNK = 1000 -- arguments of one variadic call: far below Lua's stack limit

local MESSAGES, DELIVERIES, LEASES = P .. 'messages', P .. 'deliveries', P .. 'leases'
local HEADS, DUE, PAUSED, QUEUES = P .. 'heads', P .. 'due', P .. 'paused', P .. 'queues'
local TOMBSTONES, GENERATION, CLOCK = P .. 'tombstones', P .. 'generation', P .. 'clock'

-- A queue here is either one that people name, or a lane of it: "queue|actor", where the messages of one limited actor
-- wait, so that nothing waits behind them. What is counted for people, paused, or told to blocked workers is the queue.
local function queue_of(name)
  local cut = string.find(name, '|', 1, true)
  return cut and string.sub(name, 1, cut - 1) or name
end

local function waiting_of(queue) return P .. 'queue:' .. queue .. ':waiting' end
local function delayed_of(queue) return P .. 'queue:' .. queue .. ':delayed' end
local function wake_of(queue) return P .. 'queue:' .. queue .. ':wake' end
local function dead_of(queue) return P .. 'queue:' .. queue .. ':dead' end
local function letters_of(queue) return P .. 'queue:' .. queue .. ':letters' end
local function lanes_of(queue) return P .. 'queue:' .. queue .. ':lanes' end
local function held_of(lane) return P .. 'queue:' .. lane .. ':held' end
local function starts_of(lane) return P .. 'queue:' .. lane .. ':starts' end

local function digits(number) return string.format('%.0f', number) end

local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2] + tonumber(ARGV[1])
end

-- The time at which a message arrives that arrives now: after all that came before it, even if the server's clock was
-- set back.
local function arrive(now_us)
  local at_us = math.max(now_us, tonumber(redis.call('GET', CLOCK) or '0') + 1)
  redis.call('SET', CLOCK, digits(at_us))
  return at_us
end

-- A delayed message arrives when it is due: who comes later arrives later.
local function arrived(due_us)
  if due_us > tonumber(redis.call('GET', CLOCK) or '0') then redis.call('SET', CLOCK, digits(due_us)) end
end

-- A record is: version 'A', priority 'a'..'j', attempt (5 digits), payload.
local function priority_of(record) return string.byte(record, 2) - 96 end
local function attempt_of(record) return tonumber(string.sub(record, 3, 7)) or 0 end

local function score_of(arrived_us, priority)
  return arrived_us - EPOCH_US + (5 - priority) * STEP_US
end

-- A delivery is: "fence:claim owner losses score queue"; the owner is '-' when nobody holds or last held the message (then
-- there is no claim either), the queue is its lane if it has one. Losses are a number, then maybe ':' and who held the
-- message before `owner` did. The claim is that of the owner's fetch: a message that was given back comes again under
-- the same fence, maybe to the same owner, and must not be given back again by a copy of the first decision.
local function delivery(fence, owner, losses, score, queue)
  return fence .. ' ' .. owner .. ' ' .. losses .. ' ' .. score .. ' ' .. queue
end

local function read_delivery(value)
  local fence, claim, owner, losses, score, queue = string.match(value, '^(%d+)(:?%d*) (%S+) (%S+) (%S+) (.*)$')
  return fence, owner, losses, score, queue, claim
end

-- Who had a message and vanished with it, given its delivery; nil if nobody. Given back (owner '-') it is remembered.
local function lost_with(owner, losses)
  if owner ~= '-' then return owner end
  return string.match(losses, ':(.+)$')
end

local function losses_of(losses) return tonumber(string.match(losses, '^%d+')) end

-- Calls `command key ...` with any number of further arguments, in chunks. Sums what the calls return.
local function in_chunks(command, key, arguments, width)
  local total, step = 0, CHUNK - CHUNK % (width or 1)
  for first = 1, #arguments, step do
    local last = math.min(first + step - 1, #arguments)
    local reply = redis.call(command, key, unpack(arguments, first, last))
    if type(reply) == 'number' then total = total + reply end
  end
  return total
end

local function read_fields(key, ids)
  local values = {}
  for first = 1, #ids, CHUNK do
    local last = math.min(first + CHUNK - 1, #ids)
    local part = redis.call('HMGET', key, unpack(ids, first, last))
    for i = 1, #part do values[first + i - 1] = part[i] end
  end
  return values
end

-- Leaves at most `wanted` tokens in the wake list of a queue; one blocked process wakes for each.
local function wake(queue, wanted)
  local key = wake_of(queue_of(queue))
  local present = redis.call('LLEN', key)
  for _ = present + 1, math.min(wanted, 8) do redis.call('RPUSH', key, '1') end
end

-- Makes the index of queue heads true for one queue, after anything was put in or taken out. A paused queue has
-- no head: that is all that pausing does. Returns whether a message is there to be fetched.
local function rehead(queue)
  local head = redis.call('ZRANGE', waiting_of(queue), 0, 0, 'WITHSCORES')
  if head[2] and redis.call('SISMEMBER', PAUSED, queue_of(queue)) == 0 then
    redis.call('ZADD', HEADS, head[2], queue)
    return true
  end
  redis.call('ZREM', HEADS, queue)
  return false
end

local function redue(queue)
  local head = redis.call('ZRANGE', delayed_of(queue), 0, 0, 'WITHSCORES')
  if head[2] then redis.call('ZADD', DUE, head[2], queue) else redis.call('ZREM', DUE, queue) end
end

-- Remembers a queue, and a lane with its queue.
local function know(name)
  local queue = queue_of(name)
  redis.call('SADD', QUEUES, queue)
  if queue ~= name then redis.call('SADD', lanes_of(queue), name) end
end

-- A queue and its lanes: wherever a message of it may wait.
local function places(queue)
  local names = redis.call('SMEMBERS', lanes_of(queue))
  names[#names + 1] = queue
  return names
end

-- The permit of a limited actor is the lease: `held` has the leased messages of a lane, and every script that begins or
-- ends a lease says so here. Cheap for others: a queue that is no lane costs one search in its name.
local function hold(lane, id)
  if string.find(lane, '|', 1, true) then redis.call('SADD', held_of(lane), id) end
end

-- Returns whether a permit came free: then the lane wants a `rehead` and a `wake`.
local function unhold(lane, id)
  return string.find(lane, '|', 1, true) and redis.call('SREM', held_of(lane), id) == 1
end

-- Delayed messages whose time has come become waiting ones, as if they had arrived at that time.
local function promote(now_us, budget)
  local queues = redis.call('ZRANGEBYSCORE', DUE, '-inf', now_us, 'LIMIT', 0, 64)
  for _, queue in ipairs(queues) do
    if budget <= 0 then return end
    local delayed = delayed_of(queue)
    local flat = redis.call('ZRANGEBYSCORE', delayed, '-inf', now_us, 'WITHSCORES', 'LIMIT', 0, budget)
    local ids, added = {}, {}
    for i = 1, #flat, 2 do ids[#ids + 1] = flat[i] end
    local records = read_fields(MESSAGES, ids)
    for i, id in ipairs(ids) do
      if records[i] then
        added[#added + 1] = score_of(tonumber(flat[2 * i]), priority_of(records[i]))
        added[#added + 1] = id
      end
    end
    if #ids > 0 then redis.call('ZREMRANGEBYRANK', delayed, 0, #ids - 1) end
    if #added > 0 then
      in_chunks('ZADD', waiting_of(queue), added, 2)
      arrived(tonumber(flat[#flat]))
    end
    budget = budget - #ids
    redue(queue)
    if rehead(queue) then wake(queue, #added / 2) end
  end
end

-- Puts a message into the dead letters of its queue and holds their number to its bound.
local function bury(lane, id, reason, record, now_us, keep_count)
  local queue = queue_of(lane)
  redis.call('ZADD', dead_of(queue), now_us, id)
  redis.call('HSET', letters_of(queue), id, reason .. '\n' .. record)
  local excess = redis.call('ZCARD', dead_of(queue)) - keep_count
  if excess > 0 then
    local oldest = redis.call('ZRANGE', dead_of(queue), 0, math.min(excess, CHUNK) - 1)
    redis.call('ZREM', dead_of(queue), unpack(oldest))
    redis.call('HDEL', letters_of(queue), unpack(oldest))
  end
end

-- Leases past their deadline end: the message goes back with its first score, to the front of its equals.
-- Right after a restart or failover (at `restarted_us`) workers had no chance to renew; they get `grace_us` to do so. The delivery keeps its owner: until another takes the message, its late answer is true.
local function expire(now_us, restarted_us, grace_us, max_losses, keep_count)
  if now_us < restarted_us + grace_us then return end
  local ids = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_us, 'LIMIT', 0, 200)
  if #ids == 0 then return end
  local values = redis.call('HMGET', DELIVERIES, unpack(ids))
  redis.call('ZREM', LEASES, unpack(ids))
  local touched = {}
  for i, id in ipairs(ids) do
    local fence, owner, losses, score, queue, claim
    if values[i] then fence, owner, losses, score, queue, claim = read_delivery(values[i]) end
    if fence and redis.call('HEXISTS', MESSAGES, id) == 1 then
      losses = losses_of(losses) + 1
      unhold(queue, id)
      if max_losses > 0 and losses >= max_losses then
        local record = redis.call('HGET', MESSAGES, id)
        redis.call('HDEL', MESSAGES, id)
        redis.call('HDEL', DELIVERIES, id)
        bury(queue, id, 'lost its worker ' .. losses .. ' times', record, now_us + i, keep_count)
        touched[queue] = (touched[queue] or 0) + 1
      else
        redis.call('HSET', DELIVERIES, id, delivery(fence .. claim, owner, losses, score, queue))
        redis.call('ZADD', waiting_of(queue), score, id)
        touched[queue] = (touched[queue] or 0) + 1
      end
    else
      redis.call('HDEL', DELIVERIES, id)
      if queue then unhold(queue, id) end
    end
  end
  for queue, count in pairs(touched) do
    if rehead(queue) then wake(queue, count) end
  end
end

-- Number and start of the present generation of the server's data, and when the server restarted or failed over last
-- (0: not since it was emptied), and when it was found emptied under living workers (0: not). Number 0 if none yet.
local function read_generation()
  local pair = redis.call('HMGET', GENERATION, 'number', 'since_us', 'restarted_us', 'emptied_us')
  return tonumber(pair[1] or '0'), tonumber(pair[2] or '0'), tonumber(pair[3] or '0'), tonumber(pair[4] or '0')
end

-- Sets a delayed message's due time. A new earliest one wakes blocked processes, which else would sleep past it.
local function delay_until(queue, id, due_us)
  redis.call('ZADD', delayed_of(queue), due_us, id)
  if redis.call('ZADD', DUE, 'LT', 'CH', due_us, queue) > 0 then wake(queue, 8) end
end

-- "d<us>": from now; "e<us>": at that time; both give the due time, nil if it has come already.
local function due_of(when, now_us)
  local kind, number = string.sub(when, 1, 1), tonumber(string.sub(when, 2))
  local due_us
  if kind == 'd' then due_us = now_us + number elseif kind == 'e' then due_us = number end
  if due_us and due_us > now_us then return due_us end
  return nil
end
