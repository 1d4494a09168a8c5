"""What a computation may read and change besides its arguments."""
