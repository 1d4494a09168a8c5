"""Stopping a computation that nobody waits for any more, without every function knowing of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from metafleet.errors import StaleError

_is_unwanted: ContextVar[Callable[[], bool] | None] = ContextVar("is_unwanted", default=None)


@contextmanager
def cancellable(is_unwanted: Callable[[], bool]) -> Iterator[None]:
    """Let ``stop_if_unwanted`` in this thread ask ``is_unwanted``.

    It must be quick. What it raises stops the computation in its own way.
    """
    token = _is_unwanted.set(is_unwanted)
    try:
        yield
    finally:
        _is_unwanted.reset(token)


def stop_if_unwanted() -> None:
    """Stop here if nobody waits for the result; learners call it between inner steps.

    Raises:
        StaleError: nobody does.
        Exception: what the question itself raised.
    """
    is_unwanted = _is_unwanted.get()
    if is_unwanted is not None and is_unwanted():
        raise StaleError("nobody waits for this result any more")
