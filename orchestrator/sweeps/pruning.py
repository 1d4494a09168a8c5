"""Ends trials early, in the process that executes them."""

import logging
from collections.abc import Mapping

from metafleet.db.engine import Database
from metafleet.db.records import SweepRecord
from metafleet.db.repositories import EvaluationRepository, SweepRepository
from metafleet.db.repositories.evaluations import TRAINED
from metafleet.errors import ConfigError, MetafleetError
from metafleet.orchestrator.records.score import score_of
from metafleet.orchestrator.runs.tenure import CancelRequest
from metafleet.orchestrator.sweeps.history import PastCurve, is_hopeless
from metafleet.orchestrator.sweeps.past_curves import curve_of_scores, read_past_curves
from metafleet.orchestrator.sweeps.pruners import HISTORY, Curve, Pruner
from metafleet.orchestrator.sweeps.trial import Trial
from metafleet.orchestrator.sweeps.trials import trials_of
from metafleet.orchestrator.training.events import (
    EvaluationDone,
    Observer,
    RunStarted,
    StepDone,
)
from metafleet.splits import META_VAL

log = logging.getLogger(__name__)


def pruned(database: Database, run_id: int, observer: Observer) -> Observer:
    """Return an observer that ends the run early if it is a trial of a sweep with a pruner."""
    with database.session(read_only=True) as session:
        sweeps = SweepRepository(session)
        trial = sweeps.find_trial(run_id)
        sweep = None if trial is None else sweeps.find(trial.sweep_id)
    if trial is None or sweep is None or sweep.plan.get("prune") is None:
        return observer
    return PruningObserver(database, sweep, trial.number, observer)


def pruner_of(sweep: SweepRecord) -> Pruner:
    """Return the pruner of a sweep that has one."""
    config = sweep.config
    return Pruner(
        sweep.plan["prune"], sweep.name, config["validation"]["every"], config["outer"]["steps"]
    )


class PruningObserver:
    """Passes events on, and asks the sweep's pruner after each validation.

    The pruner sees this validation and the committed validations of all trials. The verdict is
    recorded before the run ends, so that a run that is killed in between ends at the same step.
    """

    def __init__(
        self, database: Database, sweep: SweepRecord, number: int, inner: Observer
    ) -> None:
        self._database, self._sweep, self._number, self._inner = database, sweep, number, inner
        self._pruner = pruner_of(sweep)
        self._past: list[list[PastCurve]] | None = None

    def on_start(self, event: RunStarted) -> None:
        """Pass the event on."""
        self._inner.on_start(event)

    def on_step(self, event: StepDone) -> None:
        """Pass the event on."""
        self._inner.on_step(event)

    def on_notice(self, text: str) -> None:
        """Pass the notice on."""
        self._inner.on_notice(text)

    def on_evaluation(self, event: EvaluationDone) -> None:
        """Pass the event on, and cancel the run if the pruner says so.

        Raises:
            CancelRequest: the trial is pruned.
        """
        self._inner.on_evaluation(event)
        if event.split != META_VAL or event.label != TRAINED:
            return
        try:
            is_over = self._is_over(event)
        except ConfigError:
            raise
        except MetafleetError as error:  # the database may be back at the next validation
            log.warning("sweep=%d no verdict of the pruner: %s", self._sweep.id, error)
            return
        if is_over:
            raise CancelRequest(
                f"pruned after step {event.step} by the pruner {self._pruner.kind!r} of sweep "
                f"{self._sweep.name!r}"
            )

    def _is_over(self, event: EvaluationDone) -> bool:
        trials = {trial.number: trial for trial in trials_of(self._database, self._sweep.id)}
        trial = trials.get(self._number)
        if trial is None or trial.run is None:  # deleted
            return False
        if trial.record.pruned_step is not None:
            return event.step >= trial.record.pruned_step
        curves = read_curves(self._database, list(trials.values()))
        own = curves.get(self._number, Curve({})).by_step
        so_far = {step: value for step, value in own.items() if step < event.step}
        curves[self._number] = Curve(so_far | {event.step: score_of(event)})
        if not self._should_prune(curves, trials):
            return False
        with self._database.session() as session:
            SweepRepository(session).note_pruned(trial.run.id, step=event.step)
        return True

    def _should_prune(self, curves: Mapping[int, Curve], trials: Mapping[int, Trial]) -> bool:
        if self._pruner.kind != HISTORY:
            return self._pruner.should_prune(self._number, curves)
        config = self._sweep.config
        found = {n: curve_of_scores(config, curve.by_step) for n, curve in curves.items()}
        own = found.pop(self._number)
        if max(own.scores) > 1 - self._pruner.every / self._pruner.n_steps:
            return False  # the last validation: nothing is saved
        if self._past is None:
            ids = [trial.run.id for trial in trials.values() if trial.run is not None]
            with self._database.session(read_only=True) as session:
                self._past = read_past_curves(session, self._sweep, ids)
        return is_hopeless(own, found.values(), self._past)


def read_curves(database: Database, trials: list[Trial]) -> dict[int, Curve]:
    """Return the committed validations of trials, by the trials' numbers."""
    runs = {trial.run.id: trial for trial in trials if trial.run is not None}
    with database.session(read_only=True) as session:
        found = EvaluationRepository(session).list_curves(list(runs), split=META_VAL)
    return {
        trial.number: Curve(
            {one.step: score_of(one) for one in found.get(run_id, ())},
            is_finished=trial.score is not None,
        )
        for run_id, trial in runs.items()
    }
