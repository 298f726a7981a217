-- Put before every script that writes: is the lease still the caller's?
-- ARGV[1..3] are holder, token, now_ms; KEYS[1] is the lease, KEYS[2] the head.
local function lost()
  local lease = redis.call('GET', KEYS[1])
  if lease then
    local h, t, e = string.match(lease, '^(%S+) (%d+) (%d+)$')
    if h == ARGV[1] and t == ARGV[2] and tonumber(e) > tonumber(ARGV[3]) then
      return false
    end
  end
  local newest = redis.call('HGET', KEYS[2], 'token') or '0'
  return {'lost', newest, lease and 'held' or 'none'}
end
