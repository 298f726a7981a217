-- Replace what the sources list.
-- KEYS  lease, head, symbols
-- ARGV  holder, token, now_ms, then instrument, sources, …
-- Returns {'ok'} or {'lost', newest token, 'held' or 'none'}.
local fenced = lost()
if fenced then return fenced end
redis.call('DEL', KEYS[3])
for i = 4, #ARGV, 4000 do
  redis.call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
return {'ok'}
