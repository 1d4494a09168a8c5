"""The page "Try it": adapts to a few files of a browser, and predicts others, in a process."""
