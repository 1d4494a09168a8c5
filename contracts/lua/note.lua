-- Notes that an attempt was discarded, for the orchestrator to count. The script that discards it
-- calls this, so that no attempt is counted twice or missed when an answer is lost. The hash is the
-- last key. The last three arguments are the start of its field, the worker and the TTL.
local function note(why)
  local key, field = KEYS[#KEYS], ARGV[#ARGV - 2] .. ':' .. why
  if redis.call('HLEN', key) < MOST_DISCARDED or redis.call('HEXISTS', key, field) == 1 then
    redis.call('HSET', key, field, ARGV[#ARGV - 1])
  else
    redis.call('HINCRBY', key, string.match(field, '^[^:]+:') .. why, 1)
  end
  redis.call('PEXPIRE', key, ARGV[#ARGV])
end
