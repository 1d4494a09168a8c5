"""Blocks that a signal's handler does not break off halfway."""

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
"""Those that scripts, notebooks and schedulers stop a computation with, or save at."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Python's handlers of signals wait until the block has ended, however it ends.

    For short blocks that must be done whole or not at all: Ctrl-C raises ``KeyboardInterrupt``
    right after. Handlers run in the main thread alone, so elsewhere there is nothing to do. Blocks
    may be nested.
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
