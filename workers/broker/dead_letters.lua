-- Lists dead letters of a queue, latest first: {id, died at (us), reason newline record, ...}.
--
-- ARGV[3] queue   ARGV[4] offset   ARGV[5] limit

local queue, offset, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local flat = redis.call('ZREVRANGE', dead_of(queue), offset, offset + limit - 1, 'WITHSCORES')
local reply = {}
for i = 1, #flat, 2 do
  reply[#reply + 1] = flat[i]
  reply[#reply + 1] = flat[i + 1]
  reply[#reply + 1] = redis.call('HGET', letters_of(queue), flat[i]) or '\n'
end
return reply
