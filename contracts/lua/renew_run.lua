-- Race prevented: renewing a lease that expired and was taken by another. A missing epoch means that
-- Redis came back empty, another owner that the run was taken over, and an epoch of our own that is
-- another number that Redis or somebody changed it: everything must be sent again.
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
