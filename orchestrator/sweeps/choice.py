"""Chooses the best trial of a sweep, and evaluates it alone on the meta-test."""

from collections.abc import Sequence
from dataclasses import dataclass

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import EvaluationRecord
from metafleet.db.repositories import EvaluationRepository
from metafleet.db.repositories.evaluations import TRAINED
from metafleet.errors import FleetError
from metafleet.orchestrator.runs.evaluate_run import evaluate_run
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.trial import Trial, best_of
from metafleet.orchestrator.training.events import Observer
from metafleet.splits import META_TEST


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen trial of a sweep.

    Attributes:
        best: the trial with the best meta-validation.
        test: its meta-test; None if the configuration has none.
        others_tested: numbers of the other trials that were evaluated on the meta-test. An example
            is the best trial of a sweep to which trials were added later.
    """

    best: Trial
    test: EvaluationRecord | None
    others_tested: tuple[int, ...]


def get_best(plan: Plan, trials: Sequence[Trial]) -> Trial:
    """Return the trial with the best meta-validation.

    Raises:
        FleetError: no trial has finished.
    """
    best = best_of(trials)
    if best is not None:
        return best
    reasons = [
        f"trial {trial.number} was {trial.status}"
        + (f": {trial.why_ended}" if trial.why_ended else "")
        for trial in trials
    ]
    raise FleetError(
        f"none of the {len(trials)} trials of sweep {plan.name!r} has finished; "
        f"{reasons[0] if reasons else 'there are none'}; see `metafleet sweeps show {plan.name}`"
    )


def judge_best(
    database: Database,
    settings: Settings,
    plan: Plan,
    trials: Sequence[Trial],
    *,
    in_process: bool,
    observer: Observer,
) -> Choice:
    """Evaluate the best trial on the meta-test unless that was done.

    Raises:
        FleetError: no trial has finished, or the fleet cannot do the evaluation.
    """
    best = get_best(plan, trials)
    others = _others_tested(trials, best)
    episodes = plan.config.test.episodes
    if not episodes or best.run is None:
        return Choice(best, None, others)
    found = find_test(database, best, least=episodes)
    if found is None:
        if others:
            observer.on_notice(
                f"trial {best.number} is better than trial {max(others)}, which was chosen and "
                f"tested before; testing trial {best.number}"
            )
        evaluate_run(
            database,
            settings,
            best.run.uid,
            split=META_TEST,
            episodes=episodes,
            in_process=in_process,
            observer=observer,
        )
        found = find_test(database, best)
    else:
        observer.on_notice(
            f"trial {best.number} is still the best, and was tested before; it is not tested again"
        )
    return Choice(best, found, others)


def find_choice(database: Database, trials: Sequence[Trial]) -> Choice | None:
    """Return what was chosen so far, without a new evaluation; None if no trial has finished."""
    best = best_of(trials)
    if best is None:
        return None
    return Choice(best, find_test(database, best), _others_tested(trials, best))


def _others_tested(trials: Sequence[Trial], best: Trial) -> tuple[int, ...]:
    return tuple(t.number for t in trials if t.is_tested and t.number != best.number)


def find_test(database: Database, trial: Trial, *, least: int = 1) -> EvaluationRecord | None:
    """Return the meta-test of a trial, on ``least`` or more episodes; None if there is none."""
    if trial.run is None:
        return None
    with database.session(read_only=True) as session:
        found = EvaluationRepository(session).list(trial.run.id, split=META_TEST, label=TRAINED)
    return max(
        (one for one in found if one.episodes >= least),
        key=lambda one: (one.episodes, one.step),
        default=None,
    )
