"""Evidence from the runs in the database."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from sqlalchemy import Connection

from metafleet.db.records import RunRecord, RunStatus
from metafleet.db.repositories.runs import RunRepository
from metafleet.describing.description import Description
from metafleet.orchestrator.advice.descriptions import label_of
from metafleet.orchestrator.advice.evidence import Contest, Result, key_of
from metafleet.orchestrator.records.entry import Entry
from metafleet.orchestrator.records.score import score_of
from metafleet.orchestrator.records.selecting import with_results
from metafleet.splits import META_TEST, META_TRAIN, META_VAL
from metafleet.tracking.flat import flat

_SECTIONS: Final = ("model", "learner", "outer")


@dataclass(slots=True)
class PastRuns:
    """Finished runs with a meta-validation, by what they can be compared with.

    Attributes:
        contests: the runs on described data.
        undescribed: digest -> ``[data]`` table, for data without a description.
    """

    contests: list[Contest] = field(default_factory=list)
    undescribed: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def read_past_runs(session: Connection, descriptions: Mapping[str, Description]) -> PastRuns:
    """Return the finished runs of the database; archived ones are left out.

    Args:
        session: the caller's transaction.
        descriptions: digest -> description of the data.
    """
    runs = RunRepository(session).list(limit=None, status=RunStatus.FINISHED, archived=False)
    found = PastRuns()
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in with_results(session, runs):
        if "best" not in entry.results:
            continue
        digest = entry.run.data_digest
        if digest in descriptions:
            groups.setdefault((digest, episodes_key(entry.run.config)), []).append(entry)
        else:
            found.undescribed.setdefault(digest, entry.run.config["data"])
    for (digest, _), entries in sorted(groups.items()):
        found.contests.append(_contest(descriptions[digest], entries))
    return found


def values_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of model, learner and training, as dotted key -> value."""
    tree: dict[str, Any] = {name: config[name] for name in _SECTIONS if name in config}
    training = config.get("episodes", {}).get(META_TRAIN)
    if training:
        tree["episodes"] = {META_TRAIN: training}
    return {key: value for key, value in flat(tree).items() if value is not None}


def validated_on(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shape of the episodes of meta-validation."""
    episodes = dict(config["episodes"])
    own = episodes.pop(META_VAL, None) or {}
    for split in (META_TRAIN, META_TEST):
        episodes.pop(split, None)
    return {**episodes, **{key: value for key, value in own.items() if value is not None}}


def episodes_key(config: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs that are validated on episodes of the same shape."""
    n_episodes = config.get("validation", {}).get("episodes")
    return json.dumps([validated_on(config), n_episodes], sort_keys=True)


def _contest(description: Description, entries: Sequence[Entry]) -> Contest:
    shape = validated_on(entries[0].run.config)
    by_values: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: each.run.id):
        by_values.setdefault(key_of(values_of(entry.run.config)), []).append(entry)
    results = [
        Result(
            values_of(seeds[0].run.config),
            fmean(score_of(entry.results["best"]) for entry in seeds),
            tuple(entry.run.id for entry in seeds),
        )
        for seeds in by_values.values()
    ]
    return Contest(
        _name(entries[0].run), description, shape["n_way"], shape["k_shot"], tuple(results)
    )


def _name(run: RunRecord) -> str:
    """Return a name of the data; a class of a user's own says little, so its runs name it."""
    label = label_of(run.config["data"])
    return run.name if ":" in label else label
