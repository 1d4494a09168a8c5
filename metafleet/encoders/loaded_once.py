"""A property that several threads share and that is computed once."""

import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class loaded_once(Generic[T]):
    """A ``functools.cached_property`` with a lock: a second thread waits for the first.

    From Python 3.12 on, ``functools.cached_property`` has no lock. If it were used here, each of
    several threads that encode at the same time would load the weights.
    """

    def __init__(self, load: Callable[[Any], T]) -> None:
        self._load, self._lock = load, threading.RLock()
        self.__doc__ = load.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        """Return the value. Later accesses find it in the object itself."""
        if instance is None:
            return self
        with self._lock:
            known = vars(instance)
            if self._name not in known:
                known[self._name] = self._load(instance)
            found: T = known[self._name]
            return found
