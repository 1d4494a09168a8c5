"""The hidden state of a computation: state that it reads or changes besides its arguments."""
