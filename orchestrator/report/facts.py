"""What the database records about the runs of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from metafleet.db.records import EvaluationRecord
from metafleet.errors import ConfigError
from metafleet.orchestrator.records.arms import Arm, find_arm, refuse_common_runs
from metafleet.orchestrator.records.comparison import RESULT_OF, Comparison, compare_arms
from metafleet.orchestrator.records.entry import Entry
from metafleet.orchestrator.records.intervals import Mean
from metafleet.orchestrator.records.run_view import RunView
from metafleet.splits import META_TEST, META_VAL

MOST_GROUPS = 20
TRAINED = "trained"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one evaluated state on one split.

    Attributes:
        label: the state, as evaluations record it.
        value: the score in [0, 1], or the loss.
        ci95: half the width of the 95 % interval; None if it is unknown.
        n_seeds: number of seeds in the mean. With one seed, the interval is over episodes.
        is_share: whether the value is a score.
        episodes: number of episodes of each evaluation.
    """

    label: str
    value: float
    ci95: float | None
    n_seeds: int
    is_share: bool
    episodes: int


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A group of runs that differ only in the seed.

    Attributes:
        letter: a short name: "A", "B" ...
        is_alone: whether the report has no other group.
        arm: the runs.
        views: what is recorded about each run, in the order of ``arm.runs``.
        split: the split of the results.
        results: the results, the trained state last.
    """

    letter: str
    is_alone: bool
    arm: Arm
    views: tuple[RunView, ...]
    split: str
    results: tuple[Result, ...]

    @property
    def name(self) -> str:
        """The name of the runs, or the argument that names them."""
        names = {view.run.name for view in self.views}
        return names.pop() if len(names) == 1 else self.arm.name

    @property
    def title(self) -> str:
        """The name, with the letter if there are other groups."""
        return self.name if self.is_alone else f"{self.letter}: {self.name}"

    def chosen(self, view: RunView) -> EvaluationRecord | None:
        """Return the evaluation of a run that counts as its result."""
        entry = next(one for one in self.arm.runs if one.run.uid == view.run.uid)
        return entry.results.get(RESULT_OF[self.split])


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """Everything in a report that comes from the database.

    Attributes:
        split: the split of the results.
        groups: the groups of runs.
        comparison: the comparison of each further group with the first one; None if not asked for.
    """

    split: str
    groups: tuple[GroupFacts, ...]
    comparison: Comparison | None

    @property
    def is_share(self) -> bool:
        """Return whether the results are scores. If one group has only losses, they are losses."""
        found = [result for group in self.groups for result in group.results]
        return bool(found) and all(result.is_share for result in found)


def read_facts(session: Connection, names: Sequence[str], *, compare: bool) -> ReportFacts:
    """Read the facts of a report.

    The results are those of the meta-test. If no run has any, they are those of the best
    meta-validation.

    Args:
        session: the database.
        names: runs and groups, as for `metafleet runs compare`.
        compare: whether to compare each further group with the first one.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigError: two names name the same run, a filter matches runs that differ in more than the
            seed, there are too many groups, or there is one group and ``compare`` is True.
    """
    if len(names) > MOST_GROUPS:
        raise ConfigError(
            f"{len(names)} groups in one report; expected {MOST_GROUPS} or fewer: write several"
        )
    if compare and len(names) < 2:
        raise ConfigError("--compare with one group; expected two or more runs or groups")
    arms = refuse_common_runs([find_arm(session, name) for name in names])
    has_test = any(RESULT_OF[META_TEST] in entry.results for arm in arms for entry in arm.runs)
    split = META_TEST if has_test else META_VAL
    groups = [
        _group(session, arm, index, split, is_alone=len(arms) == 1)
        for index, arm in enumerate(arms)
    ]
    found = compare_arms(session, arms, split) if compare else None
    return ReportFacts(split, tuple(groups), found)


def _group(session: Connection, arm: Arm, index: int, split: str, *, is_alone: bool) -> GroupFacts:
    views = tuple(RunView.read(session, entry.run.uid) for entry in arm.runs)
    results = _results(list(arm.runs), views, split)
    return GroupFacts(
        letter=chr(ord("A") + index),
        is_alone=is_alone,
        arm=arm,
        views=views,
        split=split,
        results=tuple(results),
    )


def _results(entries: Sequence[Entry], views: Sequence[RunView], split: str) -> list[Result]:
    """Return the results of the trained state and, on the same episodes, of its baselines."""
    found: dict[str, list[EvaluationRecord]] = {}
    for entry, view in zip(entries, views, strict=True):
        chosen = entry.results.get(RESULT_OF[split])
        if chosen is None:
            continue
        for each in view.evaluations:
            if each.split != split or each.episodes != chosen.episodes or "," in each.label:
                continue
            if each.label != TRAINED or each.step == chosen.step:
                found.setdefault(each.label, []).append(each)
    ordered = sorted(found.items(), key=lambda item: item[0] == TRAINED)
    return [_result(label, evaluations) for label, evaluations in ordered]


def _result(label: str, found: Sequence[EvaluationRecord]) -> Result:
    is_share = all(each.accuracy is not None for each in found)
    values = [each.accuracy if is_share else each.loss for each in found]
    first = found[0]
    if len(found) == 1:
        ci95 = first.accuracy_ci95 if is_share else first.loss_ci95
        return Result(label, values[0] or 0.0, ci95, 1, is_share, first.episodes)
    mean = Mean.of([value or 0.0 for value in values])
    return Result(label, mean.mean, mean.ci95, mean.n, is_share, first.episodes)
