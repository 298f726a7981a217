-- Take the lease, or keep it.
-- KEYS  lease, head
-- ARGV  holder, token (0 to take it), now_ms, life_ms
-- Returns {1, token} when it is ours now, else {0, the newest token, when it ends}.
-- Expiry is compared with now_ms, the store's clock as the caller knows it; PX tidies.
local lease = redis.call('GET', KEYS[1])
local holder, token, ends = '', 0, 0
if lease then
  local h, t, e = string.match(lease, '^(%S+) (%d+) (%d+)$')
  if h then holder, token, ends = h, tonumber(t), tonumber(e) end
end
local now = tonumber(ARGV[3])
local newest = tonumber(redis.call('HGET', KEYS[2], 'token') or '0')
-- A store that was wiped, or came back from an older copy, has never heard of this
-- token, nor of a later one: whoever led goes on under it.
local asked = tonumber(ARGV[2])
local orphan = not lease and asked > 0 and newest < asked
if orphan then newest = asked end
if token > newest then newest = token end
local mine = orphan or (holder == ARGV[1] and token == asked)
if not mine then
  -- A holder that renews too late has lost it: somebody may have led in between. Who
  -- takes what he holds has not heard that he does, or has given that term up.
  local free = ends <= now or holder == ARGV[1]
  if ARGV[2] ~= '0' or not free then return {0, newest, ends} end
  -- The clock in the token keeps it growing over a store that was wiped.
  newest = math.max(newest + 1, now)
end
local value = string.format('%s %.0f %.0f', ARGV[1], newest, now + tonumber(ARGV[4]))
redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
redis.call('HSET', KEYS[2], 'holder', ARGV[1], 'token', string.format('%.0f', newest))
return {1, newest}
