-- Publish one batch: set the tickers, append to the log, move the head.
-- KEYS  lease, head, tickers, log
-- ARGV  holder, token, now_ms, epoch, previous, offset, log_max, then name, JSON, …
-- Returns {'ok'}, {'lost', newest token, 'held' or 'none'} or {'step', the head's epoch, its offset}.
local fenced = lost()
if fenced then return fenced end
local epoch = redis.call('HGET', KEYS[2], 'epoch') or ''
local offset = redis.call('HGET', KEYS[2], 'offset') or '0'
if epoch == ARGV[4] and offset == ARGV[6] then return {'ok'} end
if offset ~= ARGV[5] then return {'step', epoch, offset} end
local entry = {'epoch', ARGV[4], 'previous', ARGV[5]}
for i = 8, #ARGV do entry[#entry + 1] = ARGV[i] end
local id = ARGV[6] .. '-0'
local added = redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', ARGV[7], id, unpack(entry))
if type(added) == 'table' and added.err then
  -- A log that is ahead of the head comes from a store that lost the head alone.
  if not string.find(added.err, 'equal or smaller', 1, true) then return added end
  redis.call('DEL', KEYS[4])
  redis.call('XADD', KEYS[4], id, unpack(entry))
end
-- The interpreter takes about 8,000 values at once.
for i = 8, #ARGV, 4000 do
  redis.call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[4], 'offset', ARGV[6])
return {'ok'}
