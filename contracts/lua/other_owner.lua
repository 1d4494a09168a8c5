-- Returns the answer of a script if another owner holds the lease, otherwise false.
local function other_owner(key, owner, lease_ms)
  local found, left_ms = text(key), redis.call('PTTL', key)
  -- a key without a TTL, or with a longer one than leases have, is not a lease
  if not found or found == owner or found == '' or left_ms < 0 or left_ms > 10 * lease_ms then
    return false
  end
  return {'held', found, left_ms}
end
