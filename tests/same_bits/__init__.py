"""The final bits of short runs, recorded, so that no change of the code changes them unseen."""
