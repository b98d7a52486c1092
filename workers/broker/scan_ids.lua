-- One step through the ids of all messages. Reads only. The payloads stay on the server.
--
-- ARGV[3] cursor, '0' to begin   ARGV[4] about how many
--
-- Returns the next cursor ('0': done), then ids.

local step = redis.call('HSCAN', MESSAGES, ARGV[3], 'COUNT', ARGV[4])
local reply = { step[1] }
for i = 1, #step[2], 2 do reply[#reply + 1] = step[2][i] end
return reply
