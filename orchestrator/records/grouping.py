"""Groups runs that differ only in their seed, with means over the seeds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from metafleet.orchestrator.records.entry import RESULT_KEYS, Entry
from metafleet.orchestrator.records.intervals import Mean
from metafleet.orchestrator.records.literals import shown
from metafleet.tracking.flat import flat

GROUP_KEYS: Final = ("runs", "seeds")
_SEED: Final = "seed"
_INTERVAL: Final = ".ci95"


@dataclass(frozen=True, slots=True)
class Group:
    """Runs with the same code, the same data, and configurations that differ only in the seed.

    Attributes:
        entries: the runs, newest first.
    """

    entries: tuple[Entry, ...]

    def value(self, key: str) -> Any:
        """Return the group's value for a key.

        If the key is a result, the value is the mean over seeds. For a key such as ``best.ci95``,
        the value is half the width of the interval of the mean. For a key in ``GROUP_KEYS``, the
        value is a number of runs or seeds. For any other key, the value is the one that all runs
        have in common. If the runs have different values, it is the list of these values.
        """
        if key == "runs":
            return len(self.entries)
        if key == "seeds":
            return len({entry.run.seed for entry in self.entries})
        if key in RESULT_KEYS:
            mean = self.mean(key.removesuffix(_INTERVAL))
            if mean is None:
                return None
            return mean.ci95 if key.endswith(_INTERVAL) else mean.mean
        values = [entry.value(key) for entry in self.entries]
        distinct = list({shown(value): value for value in values if value is not None}.values())
        return distinct[0] if len(distinct) == 1 else distinct or None

    def mean(self, key: str) -> Mean | None:
        """Return the mean of a result over seeds; None if no run has the result.

        Of several runs with the same seed, only the newest run with the result counts. Runs with
        the same seed have the same bits. If all of them counted, the interval would be too narrow.
        """
        by_seed: dict[int, float] = {}
        for entry in self.entries:
            value = entry.value(key)
            if value is not None:
                by_seed.setdefault(entry.run.seed, value)
        return Mean.of(list(by_seed.values())) if by_seed else None

    def is_share(self, result: str) -> bool:
        """Return whether a result is a score in [0, 1], not a loss."""
        return any(entry.is_share(result) for entry in self.entries)

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration without the seed."""
        return {k: v for k, v in self.entries[0].run.config.items() if k != _SEED}


def group_runs(entries: Iterable[Entry]) -> list[Group]:
    """Group runs with the same data, code and configuration. The seed may differ.

    The groups are in the order of their first runs. Every run is in exactly one group.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        run = entry.run
        config = {k: v for k, v in run.config.items() if k != _SEED}
        identity = json.dumps([config, run.data_digest, run.code_version], sort_keys=True)
        groups.setdefault(identity, []).append(entry)
    return [Group(tuple(found)) for found in groups.values()]


def differing_keys(groups: Sequence[Group]) -> list[str]:
    """Return the keys in which groups of the same experiment differ.

    The result can contain keys of the configuration, "data" (for the data's digest) and "code" (for
    the code's version).
    """
    by_experiment: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        run = group.entries[0].run
        values = {**flat(group.config), "data": run.data_digest, "code": run.code_version}
        by_experiment.setdefault(run.experiment, []).append(values)
    return list(
        dict.fromkeys(
            key
            for alike in by_experiment.values()
            for key in dict.fromkeys(key for values in alike for key in values)
            if len({shown(values.get(key)) for values in alike}) > 1
        )
    )
