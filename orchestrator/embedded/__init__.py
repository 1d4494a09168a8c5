"""The embedded stack: a private Redis server and worker processes, for a laptop or a demo.

The command that wants a stack starts one *supervisor* process and holds the other end of its
standard input. The supervisor starts the server and the workers, restarts what dies, and stops
everything when it is told to or when that input ends, however its owner came to its end. Being a
process of its own it needs no threads and shares no signals with the training loop.
"""
