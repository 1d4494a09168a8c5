-- What is under a key if it is a text; "" for another type, which is not ours and is replaced.
local function text(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return false end
  return kind == 'string' and redis.call('GET', key) or ''
end
