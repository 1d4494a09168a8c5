-- Returns the stream's last closed step. A value that is not a number closes nothing: the
-- orchestrator finds and deletes it while a step is open.
local function last_closed(key)
  return tonumber(text(key) or '') or -1
end
