-- Sends dead letters of a queue again, as new arrivals.
--
-- ARGV[3] queue   then ids
--
-- Returns per id: 1 waits again; 0 no such dead letter (or its message lives already).

local queue = ARGV[3]
local now_us = clock_us()
local answers, returned = {}, 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local letter = redis.call('HGET', letters_of(queue), id)
  local cut = letter and string.find(letter, '\n', 1, true)
  if cut and redis.call('HEXISTS', MESSAGES, id) == 0 then
    redis.call('HDEL', letters_of(queue), id)
    redis.call('ZREM', dead_of(queue), id)
    local record = string.sub(letter, cut + 1)
    redis.call('HSET', MESSAGES, id, record)
    redis.call('ZADD', waiting_of(queue), score_of(now_us + i, priority_of(record)), id)
    returned = returned + 1
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
end
if rehead(queue) and returned > 0 then wake(queue, returned) end
return answers
