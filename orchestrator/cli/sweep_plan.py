"""Makes the plan of a sweep from the section [sweep] of a file and the options of the command."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metafleet.db.repositories.runs import refuse_reserved
from metafleet.errors import ConfigError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.config.naming import check_name
from metafleet.orchestrator.config.sweep import MOST_TRIALS
from metafleet.orchestrator.reporting.figures import counted
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.sweeps.by_optuna import require_sampler
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.proposals import Search
from metafleet.orchestrator.sweeps.pruners import require_pruner
from metafleet.orchestrator.sweeps.space import (
    Choices,
    Parameter,
    count_configurations,
    grid_size,
)

_TRIALS: Final = 20
_LONGEST_NAME: Final = 58
"""A tag has 64 characters and begins with "sweep:"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """The options of `metafleet sweep`; None where an option is not given.

    The file's section [sweep] has the same keys. An option that is given counts more.
    """

    over: Sequence[str]
    trials: int | None
    sampler: str | None
    prune: str | None
    parallel: int | None
    seed: int | None

    def plan(self, config: ExperimentConfig, name: str | None) -> Plan:
        """Return the plan of the sweep.

        Raises:
            ConfigError: an option or a key of [sweep] is wrong, or a package is missing.
        """
        section = config.sweep
        texts = self.over or section.over
        if not texts:
            raise ConfigError(
                "nothing to search; expected --over KEY=VALUES, once or more, or over in the "
                "section [sweep] of the file"
            )
        trials = self.trials or section.trials
        prune = self.prune or section.prune
        require_pruner(prune)
        search, size = _search(
            parse_space(texts),
            self.sampler or section.sampler,
            seed=section.seed if self.seed is None else self.seed,
            trials=trials,
        )
        return Plan(
            name=_name(name or f"{config.name}-sweep"),
            config=config,
            search=search,
            n_trials=_n_trials(search, size, trials),
            parallel=self.parallel or section.parallel,
            prune=None if prune == "none" else prune,
        )


def _name(name: str) -> str:
    check_name(name, "--name")
    refuse_reserved(name)
    if len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"--name has {len(name)} characters; expected at most {_LONGEST_NAME} for a sweep"
        )
    return name


def _search(
    space: tuple[Parameter, ...], sampler: str | None, *, seed: int, trials: int | None
) -> tuple[Search, int | None]:
    """Return how configurations are chosen, and how many there are; None if there is no limit."""
    if sampler is None:
        is_grid = trials is None and all(isinstance(one, Choices) for one in space)
        sampler = "grid" if is_grid else "random"
    require_sampler(sampler)
    if sampler == "grid":
        return Search(space, sampler, seed), grid_size(space, limit=MOST_TRIALS)
    return Search(space, sampler, seed), count_configurations(space, limit=MOST_TRIALS)


def _n_trials(search: Search, size: int | None, wanted: int | None) -> int:
    """Return the number of trials; say it if the space has fewer configurations than wanted."""
    most = MOST_TRIALS if size is None else size
    n_trials = wanted or (most if search.sampler == "grid" else min(_TRIALS, most))
    if n_trials > most:
        notify(f"the space has {counted(most, 'configuration')}; each is tried once")
    return min(n_trials, most)
