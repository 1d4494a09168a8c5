"""Compares two computations of one shard."""

from typing import NamedTuple

from metafleet.errors import ImpureError


class Computed(NamedTuple):
    """One of two computations of the same shard, whose bits are compared.

    Attributes:
        bits: digest of the shard's sum, losses and accuracies.
        worker: the process that computed the shard ("host:pid").
    """

    bits: str
    worker: str


def require_equal(name: str, first: Computed, second: Computed) -> None:
    """Require that two computations of one shard have equal bits.

    Raises:
        ImpureError: the bits differ. The message names the step, both processes and likely causes.
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
