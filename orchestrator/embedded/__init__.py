"""The embedded stack: a private Redis server and worker processes, for a laptop or a demo.

The command that needs a stack starts one *supervisor* process and keeps the supervisor's standard
input open. The supervisor starts the server and the workers. If one of these processes dies, the
supervisor restarts it. The supervisor stops the stack after a signal, or when its standard input
ends. The standard input also ends if the command is killed. The supervisor is a separate process,
so that it needs no threads and shares no signals with the training loop.
"""
