"""What came of one shard, to be held against another computation of it."""

from typing import NamedTuple

from metafleet.errors import ImpureError


class Computed(NamedTuple):
    """What came of a shard that is looked at more closely, and by whom.

    Attributes:
        bits: digest of its sum, its losses and its accuracies.
        worker: who computed it ("host:pid").
    """

    bits: str
    worker: str


def require_equal(name: str, first: Computed, second: Computed) -> None:
    """Hold two computations of one shard against each other.

    Raises:
        ImpureError: their bits differ; names the step, both processes and likely causes.
    """
    if first.bits != second.bits:
        who = f"{first.worker} and {second.worker}"
        if first.worker == second.worker:
            who = f"{first.worker}, twice"
        raise ImpureError(
            f"{name}: one shard came out with other bits when it was computed again ({who}: "
            f"{first.bits[:12]} and {second.bits[:12]}); a learner and a model must be functions "
            "of the state and the episode alone: look for the clock, counters kept on an object or "
            "module, values kept from one episode to the next, generators seeded from the system, "
            "the order of sets (PYTHONHASHSEED), and for other code on one of the hosts; or set "
            'engine.numerics="relaxed"'
        )
