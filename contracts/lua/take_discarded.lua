-- Takes notes of discarded attempts, or logs of attempts. Race prevented: an attempt is noted
-- between reading and deleting. A fenced-out orchestrator gets nothing: the notes belong to its
-- successor.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {} end
local discarded = redis.call('HGETALL', KEYS[2])
redis.call('DEL', KEYS[2])
return discarded
