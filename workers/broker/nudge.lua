-- Wakes one blocked process for each queue that has messages: said by a process that stops listening, whose last
-- wake-up may have been lost with its connection.

local heads = redis.call('ZRANGE', HEADS, 0, 99)
for _, queue in ipairs(heads) do wake(queue, 1) end
return #heads
