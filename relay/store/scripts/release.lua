-- Give the lease back, if it is still the caller's.
-- KEYS  lease
-- ARGV  holder, token
-- Returns 1 when it was.
local lease = redis.call('GET', KEYS[1])
if not lease then return 0 end
local h, t = string.match(lease, '^(%S+) (%d+) %d+$')
if h ~= ARGV[1] or t ~= ARGV[2] then return 0 end
return redis.call('DEL', KEYS[1])
