-- Race prevented: a worker commits while the step's keys are deleted. Once 'closed' is set, no
-- commit succeeds, so nothing is left behind. A fenced-out orchestrator closes nothing. Also
-- returns and deletes the notes of discarded attempts, of this step or of earlier ones.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'fenced', {}} end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
local discarded = redis.call('HGETALL', KEYS[6])
redis.call('DEL', KEYS[6])
return {'ok', discarded}
