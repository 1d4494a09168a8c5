"""The hidden state of a computation: what it reads and changes in addition to its arguments."""
