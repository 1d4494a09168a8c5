-- Who else holds the lease: false, or the answer of a script that finds it held.
local function other_owner(key, owner, lease_ms)
  local found, left_ms = text(key), redis.call('PTTL', key)
  -- one that never ends, or lasts longer than leases do, is no lease
  if not found or found == owner or found == '' or left_ms < 0 or left_ms > 10 * lease_ms then
    return false
  end
  return {'held', found, left_ms}
end
