"""Proposes the configuration of the next trial: from a grid, at random, or by an Optuna sampler.

A proposal depends only on the space, the sampler, the seed, the number of the trial and the results
of the earlier trials. So a sweep that is killed and continued has the same proposals as a sweep
that is not killed.
"""

import hashlib
import itertools
import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.orchestrator.sweeps.space import Choices, Parameter

SAMPLERS: Final = ("grid", "random", "tpe", "gp")
_STARTUP_TRIALS: Final = 8
"""Number of random trials before a model of the results is used."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an earlier trial.

    Attributes:
        values: key -> value that the trial tried.
        score: the trial's result, higher is better; None if there is no result yet.
        has_failed: whether the trial ended without a result.
    """

    values: Mapping[str, Any]
    score: float | None
    has_failed: bool = False


def propose(
    space: Sequence[Parameter],
    sampler: str,
    *,
    seed: int,
    number: int,
    earlier: Sequence[Outcome],
) -> dict[str, Any]:
    """Return the values that a trial tries, as key -> value.

    Args:
        space: the parameters of the sweep. A parameter is a key with its possible values.
        sampler: one of ``SAMPLERS``.
        seed: the seed of the sweep.
        number: number of the trial, from 0.
        earlier: the trials so far, in the order of their numbers.

    Raises:
        ConfigError: Optuna or SciPy is needed and not installed.
    """
    if sampler == "grid":
        lists = [parameter.values for parameter in space if isinstance(parameter, Choices)]
        chosen = next(itertools.islice(itertools.product(*lists), number, None))
        return {parameter.key: value for parameter, value in zip(space, chosen, strict=True)}
    if sampler == "random" or number < _STARTUP_TRIALS:
        draw = random.Random(f"{seed}/{number}")
        return {parameter.key: _drawn(parameter, draw) for parameter in space}
    return _by_optuna(space, sampler, seed=seed, number=number, earlier=earlier)


def require_sampler(sampler: str) -> None:
    """Check that a sampler can be used here.

    Raises:
        ConfigError: Optuna or SciPy is needed and not installed.
    """
    if sampler in ("tpe", "gp"):
        _optuna(sampler)


def _drawn(parameter: Parameter, draw: random.Random) -> Any:
    if isinstance(parameter, Choices):
        return parameter.values[draw.randrange(len(parameter.values))]
    # the half makes the first and last integer as likely as the others
    half = 0.5 if parameter.is_whole else 0.0
    low, high = parameter.low - half, parameter.high + half
    if parameter.is_log:
        found = math.exp(draw.uniform(math.log(low), math.log(high)))
    else:
        found = draw.uniform(low, high)
    limited = min(max(found, parameter.low), parameter.high)
    return round(limited) if parameter.is_whole else limited


def _optuna(sampler: str) -> Any:
    try:
        import optuna  # noqa: PLC0415 - an optional package

        if sampler == "gp":
            import scipy  # noqa: F401, PLC0415 - Optuna does not require it
    except ImportError as error:
        raise ConfigError(
            f"--sampler {sampler} is missing a package ({error}); pip install 'metafleet[sweep]', "
            "or choose --sampler random"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _by_optuna(
    space: Sequence[Parameter],
    sampler: str,
    *,
    seed: int,
    number: int,
    earlier: Sequence[Outcome],
) -> dict[str, Any]:
    """Ask a sampler of Optuna, given a study in memory that holds the earlier trials."""
    optuna = _optuna(sampler)
    # Optuna keeps no state of a sampler, so each trial gets a seed of its own
    own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")
    distributions = {parameter.key: _distribution(optuna, parameter) for parameter in space}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna and NumPy, e.g. about a loss of infinity
        study = optuna.create_study(
            direction="maximize", sampler=_sampler(optuna, sampler, own_seed)
        )
        for outcome in earlier:
            study.add_trial(_trial(optuna, space, distributions, outcome))
        found = study.ask(distributions).params
    return {parameter.key: _value(parameter, found[parameter.key]) for parameter in space}


def _sampler(optuna: Any, name: str, seed: int) -> Any:
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True
    )


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choices):  # by number: Optuna's categories cannot be lists
        return optuna.distributions.CategoricalDistribution(range(len(parameter.values)))
    kinds = optuna.distributions
    kind = kinds.IntDistribution if parameter.is_whole else kinds.FloatDistribution
    return kind(parameter.low, parameter.high, log=parameter.is_log)


def _trial(
    optuna: Any, space: Sequence[Parameter], distributions: Mapping[str, Any], outcome: Outcome
) -> Any:
    states = optuna.trial.TrialState
    state = states.RUNNING if outcome.score is None else states.COMPLETE
    if outcome.has_failed:
        state = states.FAIL
    return optuna.trial.create_trial(
        state=state,
        params={p.key: _code(p, outcome.values[p.key]) for p in space},
        distributions=dict(distributions),
        value=outcome.score if state is states.COMPLETE else None,
    )


def _code(parameter: Parameter, value: Any) -> Any:
    return parameter.values.index(value) if isinstance(parameter, Choices) else value


def _value(parameter: Parameter, code: Any) -> Any:
    return parameter.values[code] if isinstance(parameter, Choices) else code
