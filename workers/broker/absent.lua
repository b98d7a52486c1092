-- Which of these messages are not on the bus at all: neither waiting, delayed nor leased. Reads only.
--
-- ARGV[3...] ids
--
-- Returns their places among the ids, from 1. Looks at no payload.

local reply = {}
for i = 3, #ARGV do
  if redis.call('HEXISTS', MESSAGES, ARGV[i]) == 0 then reply[#reply + 1] = i - 2 end
end
return reply
