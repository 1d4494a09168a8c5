"""How much training `--prune history` saves, and whether it loses the best configuration.

    python -m benchmarks.early_stopping HOME [--seeds 5]

HOME is a folder of results of `python -m benchmarks.warm_start collect`. Each data set is left out
in turn. A sweep tries all configurations of the pool on it, in random order, and the curves on the
other data sets decide which trials end early. The seed sets the order.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.leave_one_out import source_of_name
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import EvaluationRepository, RunRepository
from metafleet.orchestrator.sweeps.history import PastCurve, least_good, quotient
from metafleet.orchestrator.sweeps.past_curves import curve_of
from metafleet.splits import META_VAL


class Swept(NamedTuple):
    """A simulated sweep: share of training that was saved, and of the best score that was kept."""

    saved: float
    kept: float


def read_curves(home: Path) -> dict[str, list[PastCurve]]:
    """Return the curves of all finished runs, by the names of their data sets."""
    settings = Settings.load(given={"METAFLEET_HOME": str(home)})
    found: dict[str, list[PastCurve]] = {}
    with Database.open(settings.database_url) as database, database.session() as session:
        runs = RunRepository(session).list(limit=None, status=RunStatus.FINISHED)
        curves = EvaluationRepository(session).list_curves([r.id for r in runs], split=META_VAL)
    for run in sorted(runs, key=lambda each: each.id):
        found.setdefault(run.name, []).append(curve_of(run.config, curves[run.id]))
    return found


def simulate(curves: dict[str, list[PastCurve]], leaving: str, n_seeds: int) -> Iterator[Swept]:
    """Yield the sweeps on each data set; ``leaving`` is "set" or "source"."""
    for target, own in curves.items():
        past = [
            others
            for name, others in curves.items()
            if name != target
            and (leaving == "set" or source_of_name(name) != source_of_name(target))
        ]
        limits = {share: least_good(past, share) for share in sorted(own[0].scores)[:-1]}
        for seed in range(n_seeds):
            order = list(own)
            random.Random(seed).shuffle(order)
            yield _sweep(order, limits)


def _sweep(order: Sequence[PastCurve], limits: dict[float, float | None]) -> Swept:
    done: list[PastCurve] = []
    finished: list[float] = []
    trained = 0.0
    for trial in order:
        end = _end(trial, done, limits)
        trained += end
        done.append(_until(trial, end))
        if end == 1.0:
            finished.append(trial.best)
    best = max(trial.best for trial in order)
    return Swept(1 - trained / len(order), max(finished, default=0.0) / best)


def _end(trial: PastCurve, done: Sequence[PastCurve], limits: dict[float, float | None]) -> float:
    """Return the share of training at which a trial ends."""
    for share, limit in limits.items():
        so_far = _until(trial, share)
        found = quotient(so_far, [so_far, *done], share)
        if limit is not None and found is not None and found < limit:
            return share
    return 1.0


def _until(trial: PastCurve, share: float) -> PastCurve:
    return PastCurve({at: score for at, score in trial.scores.items() if at <= share})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("home", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    curves = read_curves(given.home)
    for leaving in ("set", "source"):
        swept = list(simulate(curves, leaving, given.seeds))
        saved = sum(each.saved for each in swept) / len(swept)
        n_kept = sum(each.kept == 1.0 for each in swept)
        worst = min(each.kept for each in swept)
        print(
            f"leaving out the {leaving}: {100 * saved:.0f} % of training saved, best kept in "
            f"{n_kept} of {len(swept)} sweeps, at worst {100 * worst:.1f} % of the best"
        )


if __name__ == "__main__":
    main()
