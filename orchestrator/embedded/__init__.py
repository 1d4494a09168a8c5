"""The embedded stack: a private Redis server and worker processes, for a laptop or a demo.

The command that needs a stack starts one *supervisor* process and holds the other end of its
standard input. The supervisor starts the server and the workers and restarts those that die. It
stops everything on a signal or when that input ends, even if its owner was killed. As a separate
process, it needs no threads and shares no signals with the training loop.
"""
