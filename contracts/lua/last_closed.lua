-- The last step of the stream that was closed. What is no number closes nothing: the orchestrator
-- finds it while a step is open, and drops it.
local function last_closed(key)
  return tonumber(text(key) or '') or -1
end
