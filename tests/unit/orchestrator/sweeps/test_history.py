"""Early stopping by the curves of past runs."""

import random
from collections.abc import Sequence

from metafleet.orchestrator.sweeps.history import FEWEST, STOPPED_GOOD, PastCurve, is_hopeless

SHARES = (0.25, 0.5, 0.75, 1.0)


def curve(final: float, *, until: float = 1.0, start: float = 0.2) -> PastCurve:
    """A curve that grows steadily from ``start`` to ``final``."""
    return PastCurve({s: start + (final - start) * s for s in SHARES if s <= until})


def past(n_sets: int = 3, n_runs: int = 20) -> list[list[PastCurve]]:
    draw = random.Random(0)
    return [[curve(draw.uniform(0.3, 0.9)) for _ in range(n_runs)] for _ in range(n_sets)]


def test_a_trial_far_behind_is_stopped_and_the_leader_is_not() -> None:
    rivals = [curve(0.9), curve(0.7)]

    assert is_hopeless(curve(0.25, until=0.5), rivals, past())
    assert not is_hopeless(curve(0.9, until=0.5), rivals, past())
    assert not is_hopeless(curve(0.85, until=0.5), rivals, past())


def test_the_first_trial_and_little_history_stop_nothing() -> None:
    bad = curve(0.21, until=0.5)

    assert not is_hopeless(bad, [], past())
    assert not is_hopeless(bad, [curve(0.9)], [])
    few = [[curve(0.9), curve(0.3)]]
    assert len(few[0]) < FEWEST and not is_hopeless(bad, [curve(0.9)], few)


def test_few_good_past_runs_would_have_been_stopped() -> None:
    history = past(n_sets=4, n_runs=50)
    for share in SHARES:
        stopped = [
            _is_stopped(run, runs, history, share) for runs in history for run in _good(runs)
        ]
        assert sum(stopped) / len(stopped) <= STOPPED_GOOD
    bad = [run for runs in history for run in runs if run not in _good(runs)]
    assert any(_is_stopped(run, history[0], history, 0.75) for run in bad)


def test_only_the_time_before_the_last_validation_counts() -> None:
    late = PastCurve({0.25: 0.2, 0.5: 0.2, 1.0: 0.95})
    early = PastCurve({0.25: 0.3})

    assert late.best_until(0.5) == 0.2 and late.best_until(0.1) is None
    assert not is_hopeless(early, [late], past())


def _good(runs: Sequence[PastCurve]) -> list[PastCurve]:
    return sorted(runs, key=lambda run: -run.best)[: len(runs) // 2]


def _is_stopped(
    run: PastCurve, rivals: Sequence[PastCurve], history: list[list[PastCurve]], share: float
) -> bool:
    so_far = PastCurve({at: score for at, score in run.scores.items() if at <= share})
    return is_hopeless(so_far, rivals, history)
