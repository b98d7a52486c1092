-- Prolongs the leases of what a worker holds, and tells which of them it holds no longer.
--
-- ARGV[3] owner   ARGV[4] lease in microseconds   then per message: id, "fence:claim"
--
-- Returns {generation, since_us, then per message: 1 renewed, 0 no such message, -1 another's}.
-- A lease that had expired is taken again if nobody else took the message: whoever runs it may finish.

local owner = ARGV[3]
local until_us = clock_us() + tonumber(ARGV[4])
local generation, since_us = read_generation()
local reply = { generation, since_us }
local count = (#ARGV - 4) / 2
local ids = {}
for i = 1, count do ids[i] = ARGV[3 + 2 * i] end
local values = read_fields(DELIVERIES, ids)
local mine, queues = {}, {}
for i = 1, count do
  local token = ARGV[4 + 2 * i] .. ' ' .. owner .. ' '
  if not values[i] then
    reply[2 + i] = redis.call('HEXISTS', MESSAGES, ids[i]) == 1 and -1 or 0
  elseif string.sub(values[i], 1, #token) ~= token then
    reply[2 + i] = -1
  else
    reply[2 + i] = 1
    mine[#mine + 1] = until_us
    mine[#mine + 1] = ids[i]
    queues[#queues + 1] = values[i]
  end
end
if #mine > 0 then
  redis.call('ZREM', LEASES, '') -- removes nothing: opens the script for writes on a full server
  if in_chunks('ZADD', LEASES, mine, 2) > 0 then
    local touched = {}
    for i = 1, #queues do
      local _, _, _, _, queue = read_delivery(queues[i])
      hold(queue, mine[2 * i])
      if redis.call('ZREM', waiting_of(queue), mine[2 * i]) == 1 then touched[queue] = true end
    end
    for queue in pairs(touched) do rehead(queue) end
  end
end
return reply
