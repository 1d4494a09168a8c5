-- Races prevented: the lease ran out and was claimed by another between claim and this; or, of two
-- servers of which the database made one the owner (ARGV[5] = 'granted'), the other is still at it:
-- its lease is not waited for when its epoch is older. An epoch that is not beyond the one in Redis
-- is not begun: 'behind' asks for one that is, beyond what was found, for the steps of that one may
-- be closed here. What is no number (ARGV[6] = 'replace') is replaced at the second try, when the
-- epoch has leapt far beyond what it may have been. A repeated call after a lost answer finds its
-- own owner and epoch, and is told 'ok' again.
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
