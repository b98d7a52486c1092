-- The short way of `enqueue`, at half its cost: one message, to be run now, by an actor without limits, that the server
-- neither has nor had cancelled, on a server where no queue is paused. Anything else falls through to the long way, with
-- nothing written. What is written is just what the long way would write (tests/workers/broker/test_send_one.py).
--
-- ARGV     as `enqueue`: 7 the queue, 8 id, 9 record, 10 index of the queue, 11 when

if ARGV[6] == '1' and #ARGV == 11 and ARGV[11] == '' and not string.find(ARGV[7], '|', 1, true) then
  local P, queue, id, record = KEYS[1], ARGV[7], ARGV[8], ARGV[9]
  local memory, clock, wake = P .. 'producer:' .. ARGV[3], P .. 'clock', P .. 'queue:' .. queue .. ':wake'
  local last = redis.call('GET', memory)
  if (not last or tonumber(string.match(last, '^%d+')) < tonumber(ARGV[4]))
    and not redis.call('ZSCORE', P .. 'tombstones', id)
    and redis.call('EXISTS', P .. 'paused') == 0
    and redis.call('HSETNX', P .. 'messages', id, record) == 1
  then
    local time = redis.call('TIME')
    local arrived_us = time[1] * 1000000 + time[2] + tonumber(ARGV[1])
    arrived_us = math.max(arrived_us, (tonumber(redis.call('GET', clock) or '0')) + 1)
    redis.call('SET', memory, ARGV[4] .. ' 1', 'PX', ARGV[5])
    redis.call('SET', clock, string.format('%.0f', arrived_us))
    -- As `score_of` in the prelude: 1735689600000000 is its EPOCH_US, and 'e' (101) the priority 5.
    local score = arrived_us - 1735689600000000 + (101 - string.byte(record, 2)) * tonumber(ARGV[2])
    redis.call('ZADD', P .. 'queue:' .. queue .. ':waiting', score, id)
    if redis.call('ZADD', P .. 'heads', 'LT', score, queue) == 1 then redis.call('SADD', P .. 'queues', queue) end
    if redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
    return '1'
  end
end
