"""Elementary cellular automata as a data set."""
