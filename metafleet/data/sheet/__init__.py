"""Contact sheets: a picture of a few items of each class."""
