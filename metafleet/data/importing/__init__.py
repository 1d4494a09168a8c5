"""Import of user data: readers for the folder layouts that examples come in."""
