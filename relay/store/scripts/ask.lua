-- Note what clients ask for: only what a symbol table knows, and only so much.
-- KEYS  demand, symbols
-- ARGV  now_ms, most, instrument, …
-- Returns how many were noted.
local noted = 0
local count = redis.call('ZCARD', KEYS[1])
for i = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[i])
    noted = noted + 1
  elseif count < tonumber(ARGV[2]) and redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[i])
    count = count + 1
    noted = noted + 1
  end
end
return noted
