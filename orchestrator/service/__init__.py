"""The orchestrator as a service: servers that take runs from the database's queue.

One mechanism decides which server owns a run. The run's row names a server as ``owner`` and the
``epoch`` that the server was given; the server's own row has the time of its last heartbeat. If the
heartbeat is six seconds old, another server may take the run. This raises the epoch and so fences
the old owner out: when it next writes a row, or at its check of the epoch every second.

A separate process executes each run, so that a crash affects no other run.
"""
