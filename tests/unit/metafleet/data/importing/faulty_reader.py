"""The program of a decoding process that hangs, crashes or has no limit by a file's name."""

import os
import resource
import signal
import threading

from metafleet.data.decoding import worker_main
from metafleet.data.decoding.parquet_rows import read_rows


def _read_or_fail(path, max_bytes):
    if path.stem == "hang":
        threading.Event().wait()
    if path.stem == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.stem == "unlimited":
        resource.setrlimit = lambda *limit: None  # as macOS, which enforces none
    return read_rows(path, max_bytes)


if __name__ == "__main__":
    worker_main.read_rows = _read_or_fail
    worker_main.main()
