-- Forget the markers of removed instruments, and raise the floor above them.
-- KEYS  lease, head, tickers
-- ARGV  holder, token, now_ms, floor, name, …
-- Returns {'ok'} or {'lost', newest token, 'held' or 'none'}.
local fenced = lost()
if fenced then return fenced end
for i = 5, #ARGV do
  -- One that has come back meanwhile is a ticker again, and stays.
  local ticker = redis.call('HGET', KEYS[3], ARGV[i])
  if ticker and string.find(ticker, '"removed":true', 1, true) then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
end
local floor = redis.call('HGET', KEYS[2], 'floor') or '0'
if tonumber(ARGV[4]) > tonumber(floor) then
  redis.call('HSET', KEYS[2], 'floor', ARGV[4])
end
return {'ok'}
