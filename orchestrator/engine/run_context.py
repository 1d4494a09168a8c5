"""The context that all engines of a run share: its own, and those for measuring and compiling."""

from collections.abc import Callable
from dataclasses import dataclass

from metafleet.contracts.settings import Settings


@dataclass(frozen=True, slots=True)
class RunContext:
    """What each engine of one run needs to know.

    Attributes:
        settings: locations of the broker, the data and the compiled programs.
        run: uid of the run.
        in_process: whether to compute in this process, without a fleet.
        notify: called with messages for users.
        check: called while an engine waits. It raises an error if the run must stop.
    """

    settings: Settings
    run: str
    in_process: bool
    notify: Callable[[str], None]
    check: Callable[[], None] = lambda: None
