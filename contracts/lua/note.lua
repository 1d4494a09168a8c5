-- Notes that an attempt came to nothing, for the orchestrator to count: in the script that found it
-- out, so that no attempt is counted twice or forgotten when an answer is lost. The hash is the last
-- key; its field begins with the last but two argument, the last two are the worker and the TTL.
local function note(why)
  local key, field = KEYS[#KEYS], ARGV[#ARGV - 2] .. ':' .. why
  if redis.call('HLEN', key) < MOST_DISCARDED or redis.call('HEXISTS', key, field) == 1 then
    redis.call('HSET', key, field, ARGV[#ARGV - 1])
  else
    redis.call('HINCRBY', key, string.match(field, '^[^:]+:') .. why, 1)
  end
  redis.call('PEXPIRE', key, ARGV[#ARGV])
end
