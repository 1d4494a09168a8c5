-- Race prevented: one of ours puts the right type there between looking and deleting.
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'none' or found == ARGV[1] then return '' end
redis.call('DEL', KEYS[1])
return found
