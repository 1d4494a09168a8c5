-- Race prevented: renewing a lease that expired and was taken by another owner. A missing epoch
-- means that Redis lost its data, and another owner means that the run was taken over. If the owner
-- is ours but the epoch differs, Redis or someone else changed it, and everything must be sent
-- again.
local epoch, holder = text(KEYS[2]), text(KEYS[3])
if not epoch then return 'empty' end
if holder and holder ~= ARGV[1] then return 'fenced' end
if epoch ~= ARGV[2] then return 'changed' end
local owner = text(KEYS[1])
if owner and owner ~= '' and owner ~= ARGV[1] then return 'fenced' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return 'ok'
