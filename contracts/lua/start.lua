-- Races prevented: the same attempt is delivered to two workers, or twice to one, since Celery
-- redelivers; a message of a closed step or of a fenced-out orchestrator arrives late; this call is
-- repeated after a lost answer (the nonce is the same, so it returns 'ok' again). Returns what to
-- do and the microseconds since sending.
local function refuse(why)
  note('unneeded:' .. why)
  return {why, 0}
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return refuse('stale') end
if last_closed(KEYS[2]) >= tonumber(ARGV[2]) then return refuse('closed') end
if redis.call('HEXISTS', KEYS[4], ARGV[3]) == 1 then return refuse('done') end
local field = ARGV[3] .. ':' .. ARGV[4]
if redis.call('HSETNX', KEYS[3], field, ARGV[5]) == 0
   and redis.call('HGET', KEYS[3], field) ~= ARGV[5] then return refuse('taken') end
redis.call('PEXPIRE', KEYS[3], ARGV[7])
redis.call('SET', KEYS[5], ARGV[5], 'PX', ARGV[6])
local t = redis.call('TIME')
return {'ok', math.floor(t[1] * 1000000 + t[2] - tonumber(ARGV[8]))}
