"""Early stopping of a trial by the curves of past runs.

A curve gives the best validation so far at each share of training. Scores of different data are not
comparable, so a curve is divided by the best of its rivals at the same share: by that of the other
runs on the same data. The quotient is 1 for the leader.

A trial is hopeless if its quotient is lower than that of nearly all past runs which, at the same
share of training, were on their way to the better half. So the rule would have stopped at most a
small, known share of the good past runs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

STOPPED_GOOD: Final = 0.05
"""Largest share of good past runs that the rule would have stopped at a validation."""
FEWEST: Final = 20
"""Without this number of good past runs, no trial is stopped."""


@dataclass(frozen=True, slots=True)
class PastCurve:
    """The validations of a run.

    Attributes:
        scores: share of training in (0, 1] -> score above 0; higher is better.
    """

    scores: Mapping[float, float]

    def best_until(self, share: float) -> float | None:
        """Return the best score until a share of training; None before the first validation."""
        seen = [score for at, score in self.scores.items() if at <= share + 1e-9]
        return max(seen) if seen else None

    @property
    def best(self) -> float:
        """The best score of all."""
        return max(self.scores.values())


def is_hopeless(
    own: PastCurve, rivals: Iterable[PastCurve], past: Sequence[Sequence[PastCurve]]
) -> bool:
    """Return whether a trial should end after its last validation.

    The answer depends only on the arguments.

    Args:
        own: the trial so far.
        rivals: the other trials of its sweep.
        past: for each data set of past runs, the curves of its finished runs.
    """
    if not own.scores:
        return False
    share = max(own.scores)
    limit, found = least_good(past, share), quotient(own, [own, *rivals], share)
    return limit is not None and found is not None and found < limit


def least_good(past: Sequence[Sequence[PastCurve]], share: float) -> float | None:
    """Return the quotient below which a trial is hopeless at a share of training.

    Args:
        past: as for ``is_hopeless``.
        share: share of training in (0, 1].

    Returns:
        The quantile ``STOPPED_GOOD`` of the good past runs; None if they are fewer than ``FEWEST``.
    """
    good = sorted(found for runs in past for found in _of_good_runs(runs, share))
    return None if len(good) < FEWEST else good[math.floor(STOPPED_GOOD * len(good))]


def quotient(run: PastCurve, rivals: Iterable[PastCurve], share: float) -> float | None:
    """Return the run's best score, divided by that of the best rival at the same share."""
    own = run.best_until(share)
    others = [best for rival in rivals if (best := rival.best_until(share)) is not None]
    if own is None or not others:
        return None
    top = max(others)
    return own / top if top > 0 else 1.0


def _of_good_runs(runs: Sequence[PastCurve], share: float) -> list[float]:
    """Return the quotients, at a share of training, of the runs that ended in the better half."""
    whole = [run for run in runs if run.scores]
    if len(whole) < 2:
        return []
    finals = sorted((run.best for run in whole), reverse=True)
    worst_good = finals[(len(finals) - 1) // 2]
    found = [quotient(run, whole, share) for run in whole if run.best >= worst_good]
    return [each for each in found if each is not None]
