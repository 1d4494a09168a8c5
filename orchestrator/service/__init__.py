"""The orchestrator as a service: servers that take runs from the database's queue.

One mechanism decides whose a run is: its row names a server as ``owner`` and the ``epoch`` that
the server was given, and the server's own row says when it was last heard of. Whoever finds that
silent for six seconds may take the run, which raises the epoch and so fences the old owner out: at
its next row in the database, and at the latest when it looks at the epoch, every second.

Each run is executed by a process of its own, so that one that crashes harms no other.
"""
