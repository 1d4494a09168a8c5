-- Races prevented: renewing the lease of an attempt that the orchestrator has already given up, and
-- continuing to compute for a closed step. 0 tells the worker to stop.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if last_closed(KEYS[2]) >= tonumber(ARGV[2]) then return 0 end
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then return 0 end
if redis.call('GET', KEYS[4]) ~= ARGV[4] then return 0 end
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return 1
