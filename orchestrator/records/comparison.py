"""Compares runs: configurations, results, and paired tests on the same episodes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection

from metafleet.db.records import EpisodeResultsRecord
from metafleet.db.repositories.episode_results import EpisodeResultsRepository
from metafleet.db.repositories.evaluations import TRAINED
from metafleet.orchestrator.records.arms import Arm
from metafleet.orchestrator.records.entry import Entry
from metafleet.orchestrator.records.intervals import Mean
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.records.paired import Paired, holm, over_episodes, over_seeds
from metafleet.splits import META_TEST, META_VAL, SPLITS
from metafleet.tracking.flat import flat

ALPHA: Final = 0.05
_OTHERWISE_USED: Final = (*SPLITS, "n_unknown")
"""Keys of [episodes] that do not change the episodes of an evaluation."""
RESULT_OF: Final = {META_TEST: "test", META_VAL: "best"}
"""Split -> the result of a run that is compared."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A result of one arm. ``ci95`` is over seeds, or over episodes if there is one seed."""

    value: float
    ci95: float | None
    n_seeds: int
    is_share: bool


@dataclass(frozen=True, slots=True)
class Contrast:
    """The comparison of an arm with the first arm. An arm is one side: a run or a group of runs.

    Attributes:
        of_episodes: the comparison of the trained states by their results on the same episodes;
            None if there are no such episodes.
        of_seeds: the comparison of the arms by the mean difference of each seed; None if the arms
            have fewer than two seeds in common.
        problem: why there is no comparison; "" if there is one.
        note: names the seeds that the comparison leaves out; "" if it leaves out no seed.
    """

    of_episodes: Paired | None = None
    of_seeds: Paired | None = None
    problem: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of several arms on one split, and their comparisons.

    Attributes:
        split: the split.
        metric: "score" or "loss".
        arms: the arms. Each further arm is compared with the first arm.
        figures: the result of each arm; None for an arm without results.
        keys: key -> value of each arm, for the keys whose value differs between arms.
        contrasts: the comparison of each further arm with the first arm.
    """

    split: str
    metric: str
    arms: tuple[Arm, ...]
    figures: tuple[Figure | None, ...]
    keys: Mapping[str, tuple[Any, ...]]
    contrasts: tuple[Contrast, ...]

    def verdict(self, found: Paired) -> str:
        """Return "better", "worse" or "no difference shown", of an arm compared with the first."""
        if found.p is None or found.low is None or found.high is None or found.p >= ALPHA:
            return "no difference shown"
        if found.low <= 0 <= found.high:  # a bootstrap interval that does not agree with the test
            return "no difference shown"
        is_higher = found.mean > 0
        return "better" if is_higher == (self.metric == "score") else "worse"


def compare_arms(session: Connection, arms: Sequence[Arm], split: str) -> Comparison:
    """Compare each further arm with the first arm.

    For each run, the results of the tested state are compared; on meta_val, the results of its best
    state. A comparison leaves out seeds that only one of its two arms has. It also leaves out
    episodes on which only one of two runs was evaluated.
    """
    figures = tuple(_figure(arm, split) for arm in arms)
    is_score = all(_has_scores(arm, split) for arm in arms)
    results = {entry.run.id: _results(session, entry, split) for arm in arms for entry in arm.runs}
    first, *others = arms
    contrasts = [_contrast(first, arm, results, split, is_score=is_score) for arm in others]
    return Comparison(
        split=split,
        metric="score" if is_score else "loss",
        arms=tuple(arms),
        figures=figures,
        keys=_differing(arms),
        contrasts=tuple(_corrected(contrasts)),
    )


def find_unjudged(session: Connection, arms: Sequence[Arm], split: str) -> list[Entry]:
    """Return the runs without results of single episodes, such as runs of earlier versions."""
    return [
        entry
        for entry in chain.from_iterable(arm.runs for arm in arms)
        if _results(session, entry, split) is None
    ]


def _results(session: Connection, entry: Entry, split: str) -> EpisodeResultsRecord | None:
    chosen = entry.results.get(RESULT_OF[split])
    if chosen is None:
        return None
    return EpisodeResultsRepository(session).find(
        entry.run.id, split=split, label=TRAINED, step=chosen.step
    )


def _has_scores(arm: Arm, split: str) -> bool:
    """Return whether all results of an arm are scores, even those that are no number."""
    found = [entry.results.get(RESULT_OF[split]) for entry in arm.runs]
    return all(result.accuracy is not None for result in found if result is not None)


def _figure(arm: Arm, split: str) -> Figure | None:
    name = RESULT_OF[split]
    found = [entry for entry in arm.runs if entry.value(name) is not None]
    if not found:
        return None
    is_share = all(entry.is_share(name) for entry in found)
    if len(found) == 1:
        return Figure(found[0].value(name), found[0].value(f"{name}.ci95"), 1, is_share)
    mean = Mean.of([entry.value(name) for entry in found])
    return Figure(mean.mean, mean.ci95, mean.n, is_share)


def _differing(arms: Sequence[Arm]) -> dict[str, tuple[Any, ...]]:
    """Return key -> values, for keys of the configuration, ``data`` and ``code``."""
    trees = []
    for arm in arms:
        run = arm.group.entries[0].run
        trees.append({**flat(arm.group.config), "data": run.data_digest, "code": run.code_version})
    keys = dict.fromkeys(key for tree in trees for key in tree)
    found = {key: tuple(tree.get(key) for tree in trees) for key in keys}
    return {key: values for key, values in found.items() if len({*map(shown, values)}) > 1}


def _contrast(
    first: Arm,
    other: Arm,
    results: Mapping[int, EpisodeResultsRecord | None],
    split: str,
    *,
    is_score: bool,
) -> Contrast:
    problem = _why_incomparable(first.runs[0], other.runs[0], split)
    if problem:
        return Contrast(problem=problem)
    ours, theirs = ({entry.run.seed: entry.run.id for entry in arm.runs} for arm in (first, other))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return Contrast(
            problem=f"no seed in common ({_listed(ours)} and {_listed(theirs)}): the seed decides "
            "the episodes; expected runs of the same seeds"
        )
    by_seed: list[list[float]] = []
    unjudged: list[int] = []
    for seed in seeds:
        pair = results[ours[seed]], results[theirs[seed]]
        if pair[0] is not None and pair[1] is not None:
            by_seed.append(_differences(pair[0], pair[1], is_score=is_score))
        else:
            unjudged.append(seed)
    if not by_seed:
        return Contrast(problem="a run has no results of single episodes; --evaluate computes them")
    every = list(chain.from_iterable(by_seed))
    if not all(map(math.isfinite, every)):
        return Contrast(problem="a loss is not finite")
    means = [math.fsum(one) / len(one) for one in by_seed]
    return Contrast(
        of_episodes=over_episodes(every),
        of_seeds=over_seeds(means) if len(means) > 1 else None,
        note=_left_out(sorted(ours.keys() ^ theirs.keys()), unjudged),
    )


def _differences(
    first: EpisodeResultsRecord, other: EpisodeResultsRecord, *, is_score: bool
) -> list[float]:
    """Return ``other`` minus ``first`` for each episode that is part of both evaluations.

    If one evaluation has more episodes, its first episodes are those of the other evaluation.
    """
    ours = first.accuracies if is_score else first.losses
    theirs = other.accuracies if is_score else other.losses
    return [b - a for a, b in zip(ours or (), theirs or (), strict=False)]


def _why_incomparable(first: Entry, other: Entry, split: str) -> str:
    if first.run.data_digest != other.run.data_digest:
        return "not comparable: the runs have other data"
    ours, theirs = (episodes_of(entry.run.config, split) for entry in (first, other))
    keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
    if not keys:
        return ""
    key = keys[0]
    return (
        f"not comparable: the runs have other episodes of {split} "
        f"({key}={shown(ours.get(key))} and {shown(theirs.get(key))})"
    )


def episodes_of(config: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Return the keys of [episodes] as they apply to one split."""
    section = config.get("episodes", {})
    common = {key: value for key, value in section.items() if key not in _OTHERWISE_USED}
    own = {k: v for k, v in (section.get(split) or {}).items() if v is not None}
    return {**common, **own}


def _left_out(single: Sequence[int], unjudged: Sequence[int]) -> str:
    """Name the seeds that only one of two arms has, and those without results of episodes."""
    reasons = (
        (single, "only one of the two has it", "only one of the two has them"),
        (unjudged, "not evaluated on single episodes", "not evaluated on single episodes"),
    )
    return "; ".join(
        f"seed {_listed(seeds)} is left out: {why_one}"
        if len(seeds) == 1
        else f"seeds {_listed(seeds)} are left out: {why_many}"
        for seeds, why_one, why_many in reasons
        if seeds
    )


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def _corrected(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Correct the p values for the number of comparisons, for episodes and seeds apart."""
    found = list(contrasts)
    for name in ("of_episodes", "of_seeds"):
        with_p = [
            i
            for i, contrast in enumerate(found)
            if (one := getattr(contrast, name)) is not None and one.p is not None
        ]
        values = holm([getattr(found[i], name).p for i in with_p])
        for i, p in zip(with_p, values, strict=True):
            found[i] = replace(found[i], **{name: replace(getattr(found[i], name), p=p)})
    return found
