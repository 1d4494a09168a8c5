"""The description of a sweep."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from metafleet.errors import ConfigError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.proposals import Search, draw_values
from metafleet.orchestrator.sweeps.space import assignment, keys_of_space

_PROBES: Final = 20
_ORIGIN: Final = re.compile(r"^(--set|configuration): ", re.MULTILINE)
_TEST_EPISODES: Final = "test.episodes"
"""Trials are not tested; only the chosen one is, at the end of the sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The description of a sweep.

    Attributes:
        name: name of the sweep and of its runs.
        config: the configuration that the trials change. The runs have its seed, so that all runs
            are validated on the same episodes.
        search: how configurations are chosen.
        prune: one of ``PRUNERS``, which ends bad trials early; None for no pruning.
        n_trials: number of configurations to try.
        parallel: number of trials that servers execute at a time; None to execute one trial after
            another in the process that controls the sweep.
    """

    name: str
    config: ExperimentConfig
    search: Search
    n_trials: int
    parallel: int | None = None
    prune: str | None = None

    @property
    def tag(self) -> str:
        """The tag of the sweep's runs, for lists of runs. The sweep itself does not read it."""
        return f"sweep:{self.name}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the trials change."""
        return keys_of_space(self.search.space)

    def to_json(self) -> dict[str, Any]:
        """Return what distinguishes the proposals of two sweeps of one configuration, as JSON."""
        return {
            "over": [str(parameter) for parameter in self.search.space],
            "sampler": self.search.sampler,
            "seed": self.search.seed,
            "prune": self.prune,
            "first": [dict(values) for values in self.search.first],
        }

    @classmethod
    def from_json(
        cls,
        tree: Mapping[str, Any],
        *,
        name: str,
        config: Mapping[str, Any],
        n_trials: int,
        parallel: int | None,
    ) -> Self:
        """Rebuild a plan from the result of ``to_json`` and what a sweep's row has besides."""
        search = Search(
            parse_space(tree["over"]), tree["sampler"], tree["seed"], tuple(tree["first"])
        )
        checked = ExperimentConfig.from_json(config, f"configuration of sweep {name!r}")
        return cls(
            name=name,
            config=checked,
            search=search,
            n_trials=n_trials,
            parallel=parallel,
            prune=tree["prune"],
        )

    def configuration(
        self, values: Mapping[str, Any], allowed_packages: tuple[str, ...]
    ) -> ExperimentConfig:
        """Return the configuration of a trial. It lacks each nested key that the trial lacks.

        Raises:
            ConfigError: the configuration is invalid.
        """
        nested = {one.key for one in self.search.space if one.condition is not None}
        tree = self.config.to_json()
        for key in nested.difference(values):
            tree = _without(tree, key.split("."))
        try:
            return ExperimentConfig.changed(
                tree,
                {**values, _TEST_EPISODES: 0},
                origin="configuration",
                allowed_packages=allowed_packages,
            )
        except ConfigError as error:
            raise ConfigError(_ORIGIN.sub("", str(error))) from error

    def check(self, allowed_packages: tuple[str, ...]) -> None:
        """Check that some configurations of the space are valid, so that the sweep can begin.

        Raises:
            ConfigError: there are no validations, or each of several configurations is invalid. The
                message has the problem of the first one.
        """
        if not self.config.validation.every:
            raise ConfigError(
                "validation.every=0, so trials could not be compared; expected 1 or more, for "
                "example --set validation.every=100"
            )
        problems = []
        for number in range(_PROBES):
            values = draw_values(self.search.space, f"probe/{number}")
            try:
                self.configuration(values, allowed_packages)
            except ConfigError as error:
                texts = ", ".join(assignment(key, value) for key, value in values.items())
                problems.append(f"{texts}: {one_line(error)}")
            else:
                return
        raise ConfigError(
            f"no configuration of the space is valid, for example {problems[0]}; tried {_PROBES}"
        )


def one_line(error: Exception) -> str:
    """Return the message of an error on one line."""
    return "; ".join(str(error).splitlines())


def _without(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    first, rest = path[0], path[1:]
    if first not in tree:
        return tree
    if not rest:
        return {key: value for key, value in tree.items() if key != first}
    inner = tree[first]
    return {**tree, first: _without(inner, rest)} if isinstance(inner, dict) else tree
