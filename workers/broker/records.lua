-- The records of messages, wherever they are. Reads only.
--
-- ARGV[3] bytes after which to stop   ARGV[4...] ids
--
-- Returns the records of the first ids, '' for one that is absent: as many as fit, at least one.

local left = tonumber(ARGV[3])
local reply = {}
for i = 4, #ARGV do
  local record = redis.call('HGET', MESSAGES, ARGV[i]) or ''
  left = left - #record
  if left < 0 and i > 4 then break end
  reply[i - 3] = record
end
return reply
