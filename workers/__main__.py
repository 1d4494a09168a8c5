"""`python -m metafleet.workers`: starts a Celery worker with our options.

`metafleet worker` and `metafleet up` run this module. If the settings do not allow a worker on this
machine, the exit status is 78. In this case, restarting the worker would not help.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from celery.bin.celery import main as celery_main

_CANNOT_START: Final = 78  # sysexits.h: a configuration error


def worker_arguments(options: argparse.Namespace, *, device: str) -> list[str]:
    """Return Celery's command line for this worker.

    Args:
        options: the parsed options. If an option is None, this function chooses its value.
        device: the compute device of this worker, "cpu" or "cuda".
    """
    concurrency = options.concurrency or (1 if device == "cuda" else os.cpu_count() or 1)
    # a single process does not need a parent that imports torch too
    pool = options.pool or ("solo" if concurrency == 1 else "prefork")
    name = options.name or f"{'gpu' if device == 'cuda' else 'cpu'}-{os.getpid()}"
    return [
        "celery",
        "-A",
        "metafleet.workers.app",
        "worker",
        "--hostname",
        f"{name}@%h",
        "--pool",
        pool,
        "--concurrency",
        str(concurrency),
        "--without-gossip",
        "--without-mingle",
        "--loglevel",
        "INFO",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the worker that the options and the settings describe."""
    parser = argparse.ArgumentParser(prog="python -m metafleet.workers")
    parser.add_argument("--name")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--pool", choices=("solo", "prefork"))
    parser.add_argument("--packages-in", help="folder of your own packages, searched last")
    options = parser.parse_args(arguments)
    if options.packages_in:
        sys.path.append(options.packages_in)
    try:
        from metafleet.workers.app import device  # noqa: PLC0415 - the import reads and checks the settings
    except SystemExit as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_CANNOT_START)
    sys.argv = worker_arguments(options, device=device)
    celery_main()


if __name__ == "__main__":
    main()
