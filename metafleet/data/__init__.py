"""Data sets: where episodes come from. The only part of the core that decodes files."""
