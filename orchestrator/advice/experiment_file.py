"""Complete experiments from suggested configurations."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from metafleet.contracts.settings import Settings
from metafleet.data.registry import open_data
from metafleet.episode import META_VAL, SPLITS, EpisodeShape
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError, MetafleetError
from metafleet.orchestrator.advice.descriptions import label_of
from metafleet.orchestrator.config.experiment import ExperimentConfig

_QUERIES: Final = (15, 10, 5, 3, 2, 1)
_VALIDATIONS: Final = 10
_POINTS: Final = 10


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of episodes that a data set can fill in all splits.

    Attributes:
        n_way, k_shot, n_query: the sizes; n_way is 0 in regression.
        validates: whether meta-validation can fill them too.
    """

    n_way: int
    k_shot: int
    n_query: int
    validates: bool


def find_sizes(source: EpisodeSource, *, n_way: int | None, k_shot: int | None) -> Sizes:
    """Return the largest episodes that the splits can fill: at most 5-way 1-shot by default.

    Args:
        source: the data.
        n_way: wanted classes of an episode; None for a number that fits.
        k_shot: wanted support examples of a class; None for a number that fits.

    Raises:
        ConfigError: no episodes fit. The message has the problem of the smallest ones.
    """
    if source.target_dim and n_way:
        raise ConfigError(f"--n-way {n_way} but the data are regression; leave --n-way out")
    problem = ""
    without_validation: Sizes | None = None
    for shape in _shapes(source, n_way, k_shot):
        problems = {split: _problem(source, split, shape) for split in SPLITS}
        fails = [split for split in SPLITS if problems[split]]
        if not fails:
            return Sizes(shape.n_way, shape.k_shot, shape.n_query, validates=True)
        if fails == [META_VAL]:
            without_validation = without_validation or Sizes(
                shape.n_way, shape.k_shot, shape.n_query, validates=False
            )
        problem = problems[fails[0]]
    if without_validation is not None:
        return without_validation
    raise ConfigError(problem)


def _shapes(source: EpisodeSource, n_way: int | None, k_shot: int | None) -> Iterator[EpisodeShape]:
    if source.target_dim:
        yield EpisodeShape(0, k_shot or _POINTS, _POINTS)
        return
    for ways in (n_way,) if n_way else range(5, 1, -1):
        for n_query in _QUERIES:
            yield EpisodeShape(ways, k_shot or 1, n_query)


def _problem(source: EpisodeSource, split: str, shape: EpisodeShape) -> str:
    try:
        source.check(split, shape)
    except ConfigError as error:
        return str(error)
    return ""


def experiment_of(
    options: Mapping[str, Any], values: Mapping[str, Any], sizes: Sizes
) -> dict[str, Any]:
    """Return a complete configuration, as nested tables."""
    label = label_of(options)
    tree: dict[str, Any] = {
        "name": f"{_slug(label)}-suggested",
        "description": f"suggested for {_slug(label)} by results on similar data sets",
        "seed": 1,
        "data": dict(options),
        "episodes": {"n_way": sizes.n_way, "k_shot": sizes.k_shot, "n_query": sizes.n_query},
    }
    for key, value in values.items():
        *path, last = key.split(".")
        place = tree
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    every = max(1, int(values.get("outer.steps", _VALIDATIONS)) // _VALIDATIONS)
    if sizes.validates:
        tree["validation"] = {"every": every, "episodes": 100}
    tree["test"] = {"episodes": 600, "baselines": True}
    return tree


def find_problem(tree: Mapping[str, Any], source: EpisodeSource, settings: Settings) -> str:
    """Return why a configuration does not fit the data; "" if it fits."""
    allowed = settings.allowed_packages
    try:
        config = ExperimentConfig.changed(tree, [], origin="suggestion", allowed_packages=allowed)
        config.check_source(source, allowed_packages=allowed)
    except MetafleetError as error:
        return str(error).splitlines()[0]
    return ""


def open_source(options: Mapping[str, Any], settings: Settings) -> EpisodeSource:
    """Open the data. Raises the errors of ``open_data`` and ``open_source``."""
    allowed = settings.allowed_packages
    return open_data(options, settings.data_dir, allowed_packages=allowed).open_source()


def _slug(label: str) -> str:
    """Return a text that the name of a run may begin with."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", label.rpartition("/")[2]).strip("-")
    return plain if plain[:1].isalpha() else f"data-{plain}".rstrip("-")
