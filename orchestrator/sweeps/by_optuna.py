"""Optuna as a sampler: a study in memory is made from the earlier trials for each proposal."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metafleet.errors import ConfigError
from metafleet.orchestrator.sweeps.space import (
    Choices,
    Parameter,
    is_used,
    is_within,
    label_of,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an earlier trial.

    Attributes:
        values: key -> value that the trial tried.
        score: the trial's result, higher is better; None if there is no result yet.
        has_failed: whether the trial ended without a result.
        by_step: outer step -> result of the validation after this step, higher is better.
        is_pruned: whether a pruner ended the trial.
    """

    values: Mapping[str, Any]
    score: float | None
    has_failed: bool = False
    by_step: Mapping[int, float] = field(default_factory=dict)
    is_pruned: bool = False


def require_sampler(sampler: str) -> None:
    """Check that a sampler can be used here.

    Raises:
        ConfigError: Optuna or SciPy is needed and not installed.
    """
    if sampler in ("tpe", "gp"):
        load_optuna(f"--sampler {sampler}", needs_scipy=sampler == "gp")


def load_optuna(what: str, *, needs_scipy: bool = False) -> Any:
    """Import Optuna, and SciPy if it is needed. ``what`` names what they are needed for.

    Raises:
        ConfigError: one of them is not installed.
    """
    try:
        import optuna  # noqa: PLC0415 - an optional package

        if needs_scipy:
            import scipy  # noqa: F401, PLC0415 - Optuna does not require it
    except ImportError as error:
        raise ConfigError(
            f"{what} is missing a package ({error}); pip install 'metafleet[sweep]', or leave it "
            "out"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def ask_optuna(
    space: Sequence[Parameter], sampler: str, *, seed: int, earlier: Sequence[Outcome]
) -> dict[str, Any]:
    """Ask a sampler of Optuna, given a study in memory that holds the earlier trials.

    Args:
        space: the parameters of the sweep.
        sampler: "tpe" or "gp".
        seed: the seed of this proposal.
        earlier: the earlier trials.

    Raises:
        ConfigError: Optuna or SciPy is not installed.
    """
    optuna = load_optuna(f"--sampler {sampler}", needs_scipy=sampler == "gp")
    fills = sampler == "gp"  # it learns only from keys that all trials have
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna and NumPy, e.g. about a loss of infinity
        study = optuna.create_study(direction="maximize", sampler=_sampler(optuna, sampler, seed))
        for outcome in earlier:
            if all(is_within(one, outcome.values) for one in space):
                study.add_trial(frozen_trial(optuna, space, outcome, fills=fills))
        return _ask(study, space, _distributions(optuna, space), fills=fills)


def _distributions(optuna: Any, space: Sequence[Parameter]) -> dict[str, Any]:
    return {label_of(one): _distribution(optuna, one) for one in space}


def _ask(
    study: Any, space: Sequence[Parameter], distributions: Mapping[str, Any], *, fills: bool
) -> dict[str, Any]:
    """Ask for the values of the parameters that the configuration has."""
    trial = study.ask(
        {
            label: distributions[label]
            for parameter, label in zip(space, distributions, strict=True)
            if fills or parameter.condition is None
        }
    )
    values: dict[str, Any] = {}
    for parameter, (label, distribution) in zip(space, distributions.items(), strict=True):
        if not is_used(parameter, values):
            continue
        if label not in trial.params:
            _suggest(trial, label, distribution)
        values[parameter.key] = _value(parameter, trial.params[label])
    return values


def _suggest(trial: Any, label: str, distribution: Any) -> None:
    if hasattr(distribution, "choices"):
        trial.suggest_categorical(label, distribution.choices)
    elif isinstance(distribution.low, int):
        trial.suggest_int(label, distribution.low, distribution.high, log=distribution.log)
    else:
        trial.suggest_float(label, distribution.low, distribution.high, log=distribution.log)


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True
    )


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choices):  # by number: Optuna's categories cannot be lists
        return optuna.distributions.CategoricalDistribution(range(len(parameter.values)))
    kinds = optuna.distributions
    kind = kinds.IntDistribution if parameter.is_whole else kinds.FloatDistribution
    return kind(parameter.low, parameter.high, log=parameter.is_log)


def frozen_trial(
    optuna: Any, space: Sequence[Parameter], outcome: Outcome, *, fills: bool = False
) -> Any:
    """Return an outcome as a trial of Optuna. Its parameters have the names of ``label_of``.

    Args:
        optuna: the package.
        space: the parameters of the sweep.
        outcome: the outcome.
        fills: whether a parameter that the configuration lacks gets its first or middle value.
    """
    states = optuna.trial.TrialState
    state = states.RUNNING if outcome.score is None else states.COMPLETE
    if outcome.is_pruned and outcome.by_step:
        state = states.PRUNED
    elif outcome.has_failed:
        state = states.FAIL
    params, distributions = {}, {}
    for parameter in space:
        is_there = is_used(parameter, outcome.values) and parameter.key in outcome.values
        if not is_there and not fills:
            continue
        value = outcome.values[parameter.key] if is_there else _filling(parameter)
        params[label_of(parameter)] = _code(parameter, value)
        distributions[label_of(parameter)] = _distribution(optuna, parameter)
    by_step = dict(outcome.by_step)
    return optuna.trial.create_trial(
        state=state,
        params=params,
        distributions=distributions,
        value=outcome.score if state is states.COMPLETE else None,
        intermediate_values=by_step,
    )


def _filling(parameter: Parameter) -> Any:
    return parameter.values[0] if isinstance(parameter, Choices) else parameter.middle


def _code(parameter: Parameter, value: Any) -> Any:
    if not isinstance(parameter, Choices):
        return value
    return [json.dumps(one) for one in parameter.values].index(json.dumps(value))


def _value(parameter: Parameter, code: Any) -> Any:
    return parameter.values[code] if isinstance(parameter, Choices) else code
