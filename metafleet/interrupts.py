"""Blocks that signal handlers cannot interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

_SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
"""Signals that scripts, notebooks and schedulers use to stop a computation or to save."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer Python's signal handlers until the block has ended, with or without an error.

    Use this for short blocks that must complete. After Ctrl-C, ``KeyboardInterrupt`` is raised
    right after the block. Signal handlers run only in the main thread, so the block has no effect
    in other threads. Blocks may be nested.
    """
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if callable(handler := signal.getsignal(number)):
                    stack.enter_context(_waiting(number, handler))
        yield


@contextmanager
def _waiting(number: int, handler: Any) -> Iterator[None]:
    arrived = []
    try:
        signal.signal(number, lambda *_: arrived.append(True))
        yield
    finally:
        signal.signal(number, handler)
        if arrived:
            signal.raise_signal(number)
