-- Append a mark of the grid, which is the leader's beat as well.
-- KEYS  lease, head, log, beat
-- ARGV  holder, token, now_ms, mark, beat_ms, log_max, health, life_ms
-- Readers take the leader for alive for life_ms, 0 leaves it to each of them.
-- Returns {'ok'} or {'lost', newest token, 'held' or 'none'}.
local fenced = lost()
if fenced then return fenced end
local offset = redis.call('HGET', KEYS[2], 'offset') or '0'
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[5])
redis.call('HSET', KEYS[2], 'health', ARGV[7], 'life', ARGV[8])
if offset ~= '0' then
  local mark = {'mark', ARGV[4], 'life', ARGV[8]}
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], offset .. '-*', unpack(mark))
end
return {'ok'}
