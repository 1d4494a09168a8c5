-- Race prevented: one of our processes writes the right type between the check and the deletion.
local found = redis.call('TYPE', KEYS[1]).ok
if found == 'none' or found == ARGV[1] then return '' end
redis.call('DEL', KEYS[1])
return found
