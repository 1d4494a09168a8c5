"""Cancellation of a computation whose result is no longer needed, through a context variable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from metafleet.errors import StaleError

_is_unwanted: ContextVar[Callable[[], bool] | None] = ContextVar("is_unwanted", default=None)


@contextmanager
def cancellable(is_unwanted: Callable[[], bool]) -> Iterator[None]:
    """Make ``stop_if_unwanted`` call ``is_unwanted`` in this thread.

    ``is_unwanted`` must be fast. If it raises an exception, the computation stops as well.
    """
    token = _is_unwanted.set(is_unwanted)
    try:
        yield
    finally:
        _is_unwanted.reset(token)


def stop_if_unwanted() -> None:
    """Raise if the result is no longer needed. Learners call this between inner steps.

    Raises:
        StaleError: the result is no longer needed.
        Exception: ``is_unwanted`` raised it.
    """
    is_unwanted = _is_unwanted.get()
    if is_unwanted is not None and is_unwanted():
        raise StaleError("the result is no longer needed")
