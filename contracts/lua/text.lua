-- Returns the string at a key, false if there is none; "" for another type, which is not ours and
-- gets replaced.
local function text(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return false end
  return kind == 'string' and redis.call('GET', key) or ''
end
