-- Records the heartbeat of a worker. Removes workers that sent none for FORGET_AFTER_S, and workers
-- recorded by a server whose clock was more than CLOCKS_PART_S ahead. Replaces keys of another
-- type.
for index, kind in ipairs({'zset', 'hash'}) do
  local found = redis.call('TYPE', KEYS[index]).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', KEYS[index]) end
end
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - FORGET_AFTER_S)) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + CLOCKS_PART_S, '+inf')
redis.call('EXPIRE', KEYS[1], FORGET_AFTER_S)
redis.call('EXPIRE', KEYS[2], FORGET_AFTER_S)
