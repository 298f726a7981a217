-- Put one point before each ring, and cut the rings to their length.
-- KEYS  lease, head, then the rings
-- ARGV  holder, token, now_ms, points_max, life_ms, then a point for each ring
-- Returns {'ok'} or {'lost', newest token, 'held' or 'none'}.
local fenced = lost()
if fenced then return fenced end
for i = 3, #KEYS do
  redis.call('LPUSH', KEYS[i], ARGV[i + 3])
  redis.call('LTRIM', KEYS[i], 0, tonumber(ARGV[4]) - 1)
  redis.call('PEXPIRE', KEYS[i], ARGV[5])
end
return {'ok'}
