"""A sweep as a study of Optuna, for its importances, its pictures and its dashboard."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from metafleet.errors import ConfigError
from metafleet.orchestrator.sweeps.by_optuna import load_optuna
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.pruners import Curve
from metafleet.orchestrator.sweeps.space import Choices, Parameter, is_within, label_of
from metafleet.orchestrator.sweeps.trial import Trial

LEAST_TRIALS: Final = 4
"""Number of finished trials from which importances are estimated."""


def study_of(
    plan: Plan,
    trials: Sequence[Trial],
    curves: Mapping[int, Curve],
    *,
    what: str,
    storage: Any = None,
) -> Any:
    """Return a study with all trials of a sweep that have the values of the space.

    The values of the study are the best meta-validations: scores to maximise, or losses to
    minimise. Lists of values have the values as categories: as JSON where they are no
    scalars, and where a list has both numbers and booleans.

    Args:
        plan: the plan of the sweep.
        trials: the trials.
        curves: the validations of the trials, by their numbers; scores, or negative losses.
        what: what the study is for, to be named if Optuna is missing.
        storage: a storage of Optuna; None for memory.

    Raises:
        ConfigError: Optuna is not installed.
    """
    optuna = load_optuna(what)
    is_share = any(trial.entry and trial.entry.is_share("best") for trial in trials)
    sign = 1.0 if is_share else -1.0
    study = optuna.create_study(
        study_name=plan.name, direction="maximize" if is_share else "minimize", storage=storage
    )
    for trial in trials:
        if all(is_within(one, trial.values) for one in plan.search.space):
            by_step = curves.get(trial.number, Curve({})).by_step
            study.add_trial(_trial(optuna, plan, trial, {s: sign * v for s, v in by_step.items()}))
    return study


def importances_of(plan: Plan, trials: Sequence[Trial]) -> dict[str, float] | None:
    """Return parameter -> importance, the most important first; the importances sum to 1.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255) estimates how much each parameter decides
    whether a trial is among the best tenth. Return None if too few trials have finished.

    Raises:
        ConfigError: Optuna is not installed.
    """
    if sum(trial.score is not None for trial in trials) < LEAST_TRIALS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna, about few trials
        study = study_of(plan, trials, {}, what="--importance")
        optuna = load_optuna("--importance")
        found: dict[str, float] = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return found


def export_study(
    path: Path, plan: Plan, trials: Sequence[Trial], curves: Mapping[int, Curve]
) -> None:
    """Write a sweep as an SQLite file of its own for optuna-dashboard.

    Raises:
        ConfigError: Optuna is not installed, the file exists, or it cannot be written.
    """
    optuna = load_optuna("the export")
    if path.exists():
        raise ConfigError(f"{path} exists already; choose another file, or delete it first")
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = optuna.storages.RDBStorage(f"sqlite:///{part}")
            study_of(plan, trials, curves, what="the export", storage=storage)
            storage.remove_session()
            storage.engine.dispose()
        part.replace(path)
    except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ConfigError(
            f"{path} cannot be written ({type(error).__name__}); choose another file"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _trial(optuna: Any, plan: Plan, trial: Trial, by_step: dict[int, float]) -> Any:
    states = optuna.trial.TrialState
    used = [one for one in plan.search.space if one.key in trial.values and _is_here(one, trial)]
    value = trial.entry.value("best") if trial.entry and trial.score is not None else None
    found = optuna.trial.create_trial(
        state=states.COMPLETE if value is not None else _state(states, trial),
        params={label_of(one): _shown(one, trial.values[one.key]) for one in used},
        distributions={label_of(one): _distribution(optuna, one) for one in used},
        value=value,
        intermediate_values=by_step,
        user_attrs={"status": trial.status, "run": trial.run.id if trial.run else None}
        | ({"why": trial.why_ended} if trial.why_ended else {}),
    )
    if trial.run is not None and trial.run.started_at is not None:
        found.datetime_start = _naive(trial.run.started_at)
        if found.datetime_complete is not None:
            found.datetime_complete = _naive(trial.run.finished_at or trial.run.started_at)
    return found


def _state(states: Any, trial: Trial) -> Any:
    if not trial.has_ended:
        return states.RUNNING
    return states.PRUNED if trial.is_pruned else states.FAIL


def _is_here(parameter: Parameter, trial: Trial) -> bool:
    return parameter.condition is None or parameter.condition.holds(trial.values)


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    kinds = optuna.distributions
    if isinstance(parameter, Choices):
        return kinds.CategoricalDistribution([_shown(parameter, v) for v in parameter.values])
    kind = kinds.IntDistribution if parameter.is_whole else kinds.FloatDistribution
    return kind(parameter.low, parameter.high, log=parameter.is_log)


def _shown(parameter: Parameter, value: Any) -> Any:
    if not isinstance(parameter, Choices):
        return value
    kinds = {isinstance(one, bool) for one in parameter.values if isinstance(one, int | float)}
    is_mixed = len(kinds) == 2  # Optuna takes 1 and true for the same category
    return json.dumps(value) if is_mixed or isinstance(value, list) else value


def _naive(moment: datetime) -> datetime:
    """Return a time as Optuna has it: local, without a zone."""
    return moment.astimezone(UTC).astimezone().replace(tzinfo=None)
