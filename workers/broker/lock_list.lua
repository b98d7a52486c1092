-- Returns the locks that are held: flat triples of name, stored value, and milliseconds until it falls free.

local reply = {}
for _, name in ipairs(redis.call('HKEYS', P .. 'lock_tokens')) do
  local held = redis.call('GET', P .. 'lock:' .. name)
  if held then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = name, held, redis.call('PTTL', P .. 'lock:' .. name)
  end
end
return reply
