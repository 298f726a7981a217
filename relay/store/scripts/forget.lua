-- Forget the markers of removed instruments, and raise the floor above them.
-- KEYS  lease, head, tickers
-- ARGV  holder, token, now_ms, floor, name, …
-- Returns {'ok'} or {'lost', newest token}.
local fenced = lost()
if fenced then return fenced end
for i = 5, #ARGV, 4000 do
  redis.call('HDEL', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
redis.call('HSET', KEYS[2], 'floor', ARGV[4])
return {'ok'}
