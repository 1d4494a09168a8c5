"""Proposes the configuration of the next trial: from a grid, at random, or by an Optuna sampler.

A proposal depends only on the space, the sampler, the seed, the number of the trial and the results
of the earlier trials. So a sweep that is killed and continued has the same proposals as a sweep
that is not killed.
"""

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from metafleet.orchestrator.config.sweep import MOST_TRIALS
from metafleet.orchestrator.sweeps.by_optuna import Outcome, ask_optuna
from metafleet.orchestrator.sweeps.space import (
    Choices,
    Parameter,
    configurations,
    count_configurations,
    is_used,
)

SAMPLERS: Final = ("grid", "random", "tpe", "gp")
_STARTUP_TRIALS: Final = 8
"""Number of random trials before a model of the results is used."""
_MOST_DRAWS: Final = 100


@dataclass(frozen=True, slots=True)
class Search:
    """How a sweep chooses configurations.

    Attributes:
        space: the parameters of the sweep. A parameter is a key with its possible values.
        sampler: one of ``SAMPLERS``.
        seed: the seed of the sweep.
        first: configurations, as key -> value, that are tried before the sampler chooses any: the
            first trial has the first one.
    """

    space: tuple[Parameter, ...]
    sampler: str
    seed: int
    first: tuple[Mapping[str, Any], ...] = ()

    def propose(self, number: int, earlier: Mapping[int, Outcome]) -> dict[str, Any]:
        """Return the values that a trial tries, as key -> value.

        No configuration is proposed twice, except if all configurations of the space were tried.

        Args:
            number: number of the trial, from 0.
            earlier: the trials so far, by their numbers.

        Raises:
            ConfigError: Optuna or SciPy is needed and not installed.
        """
        if number < len(self.first):
            return dict(self.first[number])
        number -= len(self.first)
        if self.sampler == "grid":
            known = {_text(values) for values in self.first}
            rest = (v for v in configurations(self.space) if _text(v) not in known)
            return next(islice(rest, number, None))
        before = number + len(self.first)
        tried = {_text(outcome.values) for n, outcome in earlier.items() if n < before}
        if self.sampler != "random" and number >= _STARTUP_TRIALS:
            found = self._learned(number, [earlier[n] for n in sorted(earlier)])
            if _text(found) not in tried:
                return found
        return self._drawn(number, tried)

    def _learned(self, number: int, earlier: Sequence[Outcome]) -> dict[str, Any]:
        # Optuna keeps no state of a sampler, so each trial gets a seed of its own
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        own_seed = int.from_bytes(digest[:4], "big")
        return ask_optuna(self.space, self.sampler, seed=own_seed, earlier=earlier)

    def _drawn(self, number: int, tried: Set[str]) -> dict[str, Any]:
        """Draw values at random, and again if they were tried."""
        found: dict[str, Any] = {}
        for draw in range(_MOST_DRAWS):
            found = draw_values(self.space, f"{self.seed}/{number}" + (f"/{draw}" if draw else ""))
            if _text(found) not in tried:
                return found
        if count_configurations(self.space, limit=MOST_TRIALS) is None:
            return found
        left = [
            values
            for values in islice(configurations(self.space), MOST_TRIALS)
            if _text(values) not in tried
        ]
        return random.Random(f"{self.seed}/{number}").choice(left) if left else found


def draw_values(space: Sequence[Parameter], seed: str) -> dict[str, Any]:
    """Draw a configuration at random."""
    draw = random.Random(seed)
    values: dict[str, Any] = {}
    for parameter in space:
        if is_used(parameter, values):
            values[parameter.key] = _drawn(parameter, draw)
    return values


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


def _text(values: Mapping[str, Any]) -> str:
    """Return a text that is the same for the same values; 1 and true are different values."""
    return json.dumps(values, sort_keys=True)
