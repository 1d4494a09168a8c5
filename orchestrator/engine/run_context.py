"""What the engines of one run share: the run's own, and those that measure and compile for it."""

from collections.abc import Callable
from dataclasses import dataclass

from metafleet.contracts.settings import Settings


@dataclass(frozen=True, slots=True)
class RunContext:
    """The surroundings of one run's engines.

    Attributes:
        settings: where broker, data and compiled programs are.
        run: uid of the run.
        in_process: compute here, without a fleet.
        notify: told what a person should know.
        check: called while something is waited for; raises when the run is to be left alone.
    """

    settings: Settings
    run: str
    in_process: bool
    notify: Callable[[str], None]
    check: Callable[[], None] = lambda: None
