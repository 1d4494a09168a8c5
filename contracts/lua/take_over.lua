-- Races prevented: the lease expired and another owner claimed it between 'claim' and this call; or
-- the database granted us the run (ARGV[5] = 'granted') while its former owner is still at work: we
-- do not wait for the lease of an older epoch. An epoch that is not greater than the one in Redis
-- is not begun, because steps of that epoch may be closed here: 'behind' asks for a greater one. A
-- value that is not a number is replaced at the second try (ARGV[6] = 'replace'), when the epoch
-- has leapt far beyond any value that it may have had. A call repeated after a lost answer finds
-- its own owner and epoch, and returns 'ok' again.
local owner, epoch = ARGV[1], tonumber(ARGV[2])
local found = text(KEYS[2])
local number = found and tonumber(found)
local is_odd = found and (not number or number ~= math.floor(number) or number < 0 or number > 1e9)
local is_repeated = number == epoch and text(KEYS[3]) == owner
local held = other_owner(KEYS[1], owner, tonumber(ARGV[3]))
local is_beyond = not found or (is_odd and ARGV[6] == 'replace') or (not is_odd and number < epoch)
if held and ARGV[5] ~= 'granted' then return held end
if not is_beyond and not is_repeated then
  return {'behind', is_odd and '' or string.format('%.0f', number), 0}
end
redis.call('SET', KEYS[1], owner, 'PX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('SET', KEYS[3], owner, 'PX', ARGV[4])
return {'ok', '', 0}
