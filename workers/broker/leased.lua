-- Who holds these messages now. Reads only.
--
-- ARGV[3...] ids
--
-- Returns per id: its owner, '' if no lease stands.

local reply = {}
for i = 3, #ARGV do
  local value = redis.call('ZSCORE', LEASES, ARGV[i]) and redis.call('HGET', DELIVERIES, ARGV[i])
  local owner = ''
  if value then
    local _, name = read_delivery(value)
    owner = name
  end
  reply[i - 2] = owner
end
return reply
