-- Replace the books of one exchange, if nobody has changed any of them meanwhile.
-- KEYS  one for each book
-- ARGV  life_ms, then for each book the digest of the value it replaces (empty for
--       none) and the new value
-- Returns {} when they were replaced, else the values there are, empty for none.
local found, same = {}, true
for i = 1, #KEYS do
  local value = redis.call('GET', KEYS[i]) or ''
  local digest = value ~= '' and redis.sha1hex(value) or ''
  same = same and digest == ARGV[2 * i]
  found[i] = value
end
if not same then return found end
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], ARGV[2 * i + 1], 'PX', ARGV[1])
end
return {}
