"""What a run says to people: figures, lines, and where they are written."""
