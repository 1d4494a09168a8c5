"""The context that all engines of a run share: its own, and those for measuring and compiling."""

from collections.abc import Callable
from dataclasses import dataclass

from metafleet.contracts.settings import Settings


@dataclass(frozen=True, slots=True)
class RunContext:
    """The context of one run's engines.

    Attributes:
        settings: locations of broker, data and compiled programs.
        run: uid of the run.
        in_process: compute here, without a fleet.
        notify: called with messages for people.
        check: called during waits; raises if the run must stop.
    """

    settings: Settings
    run: str
    in_process: bool
    notify: Callable[[str], None]
    check: Callable[[], None] = lambda: None
