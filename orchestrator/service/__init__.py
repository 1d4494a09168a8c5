"""The orchestrator as a service: servers that take runs from the database's queue.

The database decides which server owns a run. The run's row contains the server's name as ``owner``
and the ``epoch`` under which the server took the run. The server's own row contains the time of the
server's last heartbeat. If the last heartbeat is at least six seconds old, another server can take
the run. Taking the run raises the epoch. The old owner checks the epoch every second, and whenever
it writes a row. If the epoch has risen, the old owner stops.

A separate process executes each run, so that a crash affects no other run.
"""
