-- Race prevented: two orchestrators both see that the lease is free. Only the one that gets it may
-- then raise the epoch in the database, so that the loser cannot fence out the winner there.
local held = other_owner(KEYS[1], ARGV[1], tonumber(ARGV[2]))
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'ok', '', 0}
