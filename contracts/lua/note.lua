-- Notes that an attempt was discarded, for the orchestrator to count. The script that discards it
-- calls this, so that no attempt is counted twice or missed when an answer is lost. The hash is the
-- last key. The last three arguments are the start of its field, the start of its value (the worker
-- and the times when the attempt was sent and begun) and the TTL. The value ends with the time now,
-- in microseconds.
local function note(why)
  local key, field = KEYS[#KEYS], ARGV[#ARGV - 2] .. ':' .. why
  if redis.call('HLEN', key) < MOST_DISCARDED or redis.call('HEXISTS', key, field) == 1 then
    local t = redis.call('TIME')
    local now_us = string.format('%.0f', t[1] * 1000000 + t[2])
    redis.call('HSET', key, field, ARGV[#ARGV - 1] .. ' ' .. now_us)
  else
    redis.call('HINCRBY', key, string.match(field, '^[^:]+:') .. why, 1)
  end
  redis.call('PEXPIRE', key, ARGV[#ARGV])
end
