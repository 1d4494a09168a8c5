"""Evaluations in which examples show only some of their modalities."""

from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.episodes.problem_of import problem_of
from metafleet.errors import ConfigError
from metafleet.models.registry import looked_at
from metafleet.workload import Workload

_SUPPORT, _QUERY = "support_modalities", "query_modalities"


def modality_sets(
    workload: Workload, *, run_id: int, allowed_packages: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the sets of modalities to evaluate: each one alone, and all but each one.

    Raises:
        ConfigError: the model reads fewer than two modalities.
    """
    spec = workload.spec
    problem = problem_of(workload.source, spec.episodes)
    read = looked_at(spec.model, problem, allowed_packages=allowed_packages)
    known = sorted(set(workload.source.modalities) & (read or set(workload.source.modalities)))
    if len(known) < 2:
        raise ConfigError(
            f"run {run_id} learned from {', '.join(map(repr, known))} alone; expected a model of "
            "several modalities, such as 'fusion'; leave out --modalities"
        )
    alone = [(name,) for name in known]
    without = [tuple(other for other in known if other != name) for name in known]
    return list(dict.fromkeys(alone + without))


def only(shown: Sequence[str], split: str) -> list[str]:
    """Return assignments to configuration keys that let a split's examples show only ``shown``."""
    names = ",".join(f'"{name}"' for name in shown)
    return [f"episodes.{split}.{option}=[{names}]" for option in (_SUPPORT, _QUERY)]


def merged(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes in which equal modalities of support and query are one: ``modalities``."""
    by_field = {key.rpartition(".")[2]: key for key in changes}
    support, query = by_field.get(_SUPPORT), by_field.get(_QUERY)
    if support is None or query is None or changes[support] != changes[query]:
        return dict(changes)
    others = {key: value for key, value in changes.items() if key not in (support, query)}
    return others | {"modalities": "+".join(sorted(changes[support]))}
