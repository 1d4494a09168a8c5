"""Using what a run learned: adapt to new classes, keep that in a folder, predict; no fleet."""
