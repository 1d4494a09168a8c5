"""The embedded stack: a private Redis server and worker processes, for a laptop or a demo.

The command that needs a stack starts one *supervisor* process and keeps the supervisor's standard
input open. The supervisor starts the server and the workers and restarts those that die. It stops
everything on a signal or when its standard input ends, which also happens if the command is killed.
As a separate process, the supervisor needs no threads and shares no signals with the training loop.
"""
