-- Race prevented: many workers keep logs at the same time, while no orchestrator takes them. The
-- hash stays within its limit.
if redis.call('HLEN', KEYS[1]) < MOST_LOGS or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
