"""The orchestrator as a service: servers that take runs from the database's queue.

The database decides which server owns a run. The run's row contains the server's name as ``owner``
and the ``epoch`` under which the server took the run. The server's own row contains the time of its
last heartbeat. If the last heartbeat is six seconds old, another server may take the run and
thereby raise the epoch. The old owner notices this when it next writes a row, or at its check of
the epoch every second, and stops.

A separate process executes each run, so that a crash affects no other run.
"""
