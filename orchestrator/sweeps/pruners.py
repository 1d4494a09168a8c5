"""Optuna as a pruner: decides from the validations of all trials whether one should end early."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from metafleet.orchestrator.sweeps.by_optuna import load_optuna

HISTORY: Final = "history"
PRUNERS: Final = ("median", "hyperband", HISTORY)


@dataclass(frozen=True, slots=True)
class Curve:
    """The validations of a trial.

    Attributes:
        by_step: outer step -> result of the validation after this step, higher is better.
        is_finished: whether the trial was trained to its end.
    """

    by_step: Mapping[int, float]
    is_finished: bool = False


@dataclass(frozen=True, slots=True)
class Pruner:
    """A rule by which trials end early.

    Attributes:
        kind: one of ``PRUNERS`` except ``HISTORY``, which is no rule of Optuna. "median" ends a
            trial whose best result so far is below the median of the finished trials at the same
            step; the first five trials are not ended. "hyperband" ends a trial that is not in the
            best third at a few steps.
        sweep: name of the sweep. Hyperband divides the trials into brackets by this name.
        every: number of outer steps between two validations.
        n_steps: number of outer steps of a trial.
    """

    kind: str
    sweep: str
    every: int
    n_steps: int

    def should_prune(self, number: int, curves: Mapping[int, Curve]) -> bool:
        """Return whether trial ``number`` should end after its last validation.

        The answer depends only on the arguments. ``curves`` has all trials, by their numbers. A
        trial is never ended after its last possible validation, because this saves nothing.

        Raises:
            ConfigError: Optuna is not installed.
        """
        own = curves[number]
        if not own.by_step or max(own.by_step) + self.every > self.n_steps:
            return False
        optuna = load_optuna(f"--prune {self.kind}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Optuna, about experimental classes
            study = optuna.create_study(
                study_name=self.sweep,
                direction="maximize",
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=self._pruner(optuna),
            )
            asked = None
            for at in range(max(curves) + 1):
                trial = study.ask()  # missing numbers too, so that the numbers are the same
                if at == number:
                    asked = trial
                else:
                    self._replay(optuna, study, trial, curves.get(at))
            return self._is_judged_bad(asked, own)

    def _pruner(self, optuna: Any) -> Any:
        if self.kind == "median":
            return optuna.pruners.MedianPruner()
        return optuna.pruners.HyperbandPruner(
            min_resource=self.every, max_resource=self.n_steps, reduction_factor=3
        )

    def _replay(self, optuna: Any, study: Any, trial: Any, curve: Curve | None) -> None:
        states = optuna.trial.TrialState
        if curve is None or not curve.by_step:
            study.tell(trial, state=states.FAIL)
            return
        self._is_judged_bad(trial, curve)
        if curve.is_finished:
            study.tell(trial, max(curve.by_step.values()), state=states.COMPLETE)

    def _is_judged_bad(self, trial: Any, curve: Curve) -> bool:
        """Report the results of a trial in order, and return the verdict about the last one."""
        is_bad = False
        for step, value in sorted(curve.by_step.items()):
            trial.report(value, step)
            if self.kind == "hyperband":  # it keeps notes about each result
                is_bad = trial.should_prune()
        return bool(trial.should_prune()) if self.kind == "median" else is_bad


def require_pruner(kind: str | None) -> None:
    """Check that a pruner can be used here.

    Raises:
        ConfigError: Optuna is not installed.
    """
    if kind is not None and kind in PRUNERS and kind != HISTORY:
        load_optuna(f"--prune {kind}")
