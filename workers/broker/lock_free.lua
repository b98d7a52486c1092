-- Frees a lock if it is still held as ARGV[4] says: its stored value. ARGV[3] name. Returns 1, or 0: it was not.

local lock = P .. 'lock:' .. ARGV[3]
if redis.call('GET', lock) ~= ARGV[4] then return 0 end
return redis.call('DEL', lock)
