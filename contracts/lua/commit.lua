-- Race prevented: two attempts of one shard both finish. The first one counts. A call repeated
-- after a lost answer finds its own result and returns 'ok'. The hash is authoritative; the list
-- only wakes the orchestrator, which finds a reply that got lost after its pop in the hash.
local function refuse(why)
  note('late:' .. why)
  return why
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return refuse('stale') end
if last_closed(KEYS[2]) >= tonumber(ARGV[2]) then return refuse('closed') end
if redis.call('HSETNX', KEYS[3], ARGV[3], ARGV[4]) == 0 then
  if redis.call('HGET', KEYS[3], ARGV[3]) == ARGV[4] then return 'ok' end
  return refuse('done')
end
redis.call('RPUSH', KEYS[4], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
redis.call('DEL', KEYS[5])
return 'ok'
