"""Runs and groups are compared alike on SQLite and PostgreSQL."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from metafleet.db.engine import Database
from metafleet.db.records import EpisodeResultsRecord, EvaluationRecord, NewRun, RunStatus
from metafleet.db.repositories import (
    EpisodeResultsRepository,
    EvaluationRepository,
    RunRepository,
)
from metafleet.errors import ConfigError, RunNotFoundError
from metafleet.orchestrator.records.arms import find_arms
from metafleet.orchestrator.records.comparison import Comparison, compare_arms, find_unjudged

N = 100
RNG = np.random.default_rng(3)
HARDNESS = {seed: RNG.normal(0.6, 0.2, size=2 * N) for seed in range(9)}
"""Seed -> how easy its episodes are; the same for all runs of the seed."""


def add(
    database: Database,
    name: str,
    *,
    seed: int = 1,
    lr: float = 0.1,
    gain: float = 0.0,
    episodes: int = N,
    is_score: bool = True,
    keeps_episodes: bool = True,
    data: str = "d",
    k_shot: int = 1,
) -> int:
    """Add a run whose results are those of its episodes plus a gain and noise."""
    section = {"n_way": 5, "k_shot": k_shot, "meta_test": {"k_shot": None}}
    config: dict[str, Any] = {"seed": seed, "outer": {"lr": lr}, "episodes": section}
    new = NewRun(experiment="e", name=name, seed=seed, n_steps=9, config=config, data_digest=data)
    values = HARDNESS[seed][:episodes] + gain + RNG.normal(0, 0.01, size=episodes)
    with database.session() as session:
        run = RunRepository(session).add(new)
        RunRepository(session).mark_status(run.id, RunStatus.FINISHED)
        rows = [_evaluation(values, is_score=is_score)]
        EvaluationRepository(session).upsert_many(run.id, rows)
        if keeps_episodes:
            kept = [_episodes(values, is_score=is_score)]
            EpisodeResultsRepository(session).upsert_many(run.id, kept)
    return run.id


def _evaluation(values: Sequence[float], *, is_score: bool) -> EvaluationRecord:
    mean = float(np.mean(values))
    return EvaluationRecord(
        step=9,
        split="meta_test",
        label="trained",
        episodes=len(values),
        loss=mean,
        loss_ci95=0.02,
        accuracy=mean if is_score else None,
        accuracy_ci95=0.02 if is_score else None,
        batch_norm="none",
    )


def _episodes(values: Sequence[float], *, is_score: bool) -> EpisodeResultsRecord:
    return EpisodeResultsRecord(
        step=9,
        split="meta_test",
        label="trained",
        episodes=len(values),
        losses=tuple(map(float, values)),
        accuracies=tuple(map(float, values)) if is_score else None,
    )


def compared(database: Database, *names: str) -> Comparison:
    with database.session(read_only=True) as session:
        return compare_arms(session, find_arms(session, names), "meta_test")


def test_pairs_find_a_difference_that_intervals_hide(database: Database) -> None:
    ids = [add(database, "a"), add(database, "b", lr=0.2, gain=0.01)]
    found = compared(database, *map(str, ids))

    one, other = found.figures
    assert one is not None and other is not None and one.ci95 is not None
    assert other.value - one.value < one.ci95
    (contrast,) = found.contrasts
    assert contrast.of_episodes is not None and contrast.of_seeds is None
    assert contrast.of_episodes.n == N
    assert contrast.of_episodes.low < 0.01 < contrast.of_episodes.high
    assert found.verdict(contrast.of_episodes) == "better"
    assert found.keys == {"outer.lr": (0.1, 0.2)}
    (reverse,) = compared(database, "b", "a").contrasts
    assert reverse.of_episodes is not None
    assert found.verdict(reverse.of_episodes) == "worse"


def test_no_difference_is_said_to_be_none(database: Database) -> None:
    add(database, "a"), add(database, "b", lr=0.2)
    found = compared(database, "a", "b")

    paired = found.contrasts[0].of_episodes
    assert paired is not None and found.verdict(paired) == "no difference shown"


def test_a_lower_loss_is_better(database: Database) -> None:
    add(database, "a", is_score=False), add(database, "b", lr=0.2, gain=-0.05, is_score=False)
    found = compared(database, "a", "b")

    paired = found.contrasts[0].of_episodes
    assert found.metric == "loss" and paired is not None
    assert found.verdict(paired) == "better"


def test_a_name_is_all_its_seeds_and_seeds_are_pairs_too(database: Database) -> None:
    gains = {1: 0.01, 2: 0.02, 3: 0.03}
    for seed, gain in gains.items():
        add(database, "a", seed=seed)
        add(database, "b", seed=seed, lr=0.2, gain=gain)
    add(database, "a", seed=1, lr=0.9)  # older ones of the name are another group
    for seed in gains:
        add(database, "a", seed=seed)  # again: only the newest counts
    add(database, "a", seed=4)
    found = compared(database, "a", "b")

    first = found.arms[0]
    assert [entry.run.seed for entry in first.runs] == [1, 2, 3, 4]
    assert [entry.run.id for entry in first.runs][:3] == [8, 9, 10]
    (contrast,) = found.contrasts
    assert contrast.of_episodes is not None and contrast.of_episodes.n == 3 * N
    assert contrast.of_seeds is not None and contrast.of_seeds.n == 3
    assert contrast.of_seeds.mean == pytest.approx(0.02, abs=0.005)
    assert contrast.note == "seed 4 is left out: only one of the two has it"
    again = compared(database, "outer.lr=0.1", "outer.lr=0.2 and name=b")
    assert again.contrasts == found.contrasts


def test_a_newer_run_that_failed_does_not_replace_a_finished_one(database: Database) -> None:
    finished = add(database, "a")
    add(database, "b", lr=0.2, gain=0.01)
    failed = add(database, "a", keeps_episodes=False)
    with database.session() as session:
        RunRepository(session).mark_status(failed, RunStatus.FAILED)

    found = compared(database, "a", "b")

    assert [entry.run.id for entry in found.arms[0].runs] == [finished]
    assert found.contrasts[0].of_episodes is not None


def test_more_episodes_begin_with_the_same_ones(database: Database) -> None:
    add(database, "a"), add(database, "b", lr=0.2, gain=0.05, episodes=2 * N)
    paired = compared(database, "a", "b").contrasts[0].of_episodes

    assert paired is not None and paired.n == N
    assert paired.mean == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"data": "x"}, "not comparable: the runs have other data"),
        ({"k_shot": 5}, "other episodes of meta_test (k_shot=1 and 5)"),
        ({"seed": 2}, "no seed in common (1 and 2)"),
        ({"keeps_episodes": False}, "--evaluate computes them"),
        ({"gain": math.inf}, "a loss is not finite"),
    ],
)
def test_what_cannot_be_compared_is_said(
    database: Database, other: dict[str, Any], problem: str
) -> None:
    add(database, "a"), add(database, "b", lr=0.2, **other)
    (contrast,) = compared(database, "a", "b").contrasts

    assert contrast.of_episodes is None and problem in contrast.problem
    with database.session(read_only=True) as session:
        unjudged = find_unjudged(session, find_arms(session, ["a", "b"]), "meta_test")
    assert [entry.run.name for entry in unjudged] == (["b"] if "keeps_episodes" in other else [])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_not_compared(database: Database, value: float) -> None:
    for seed in (1, 2):
        for name, lr in (("a", 0.1), ("b", 0.2)):
            add(database, name, lr=lr, seed=seed, gain=value, is_score=False)

    found = compared(database, "a", "b")
    assert found.metric == "loss"
    assert found.contrasts[0].problem == "a loss is not finite"


def test_p_is_corrected_for_several_comparisons(database: Database) -> None:
    for index, name in enumerate("abc"):
        add(database, name, lr=index / 10, gain=0.002 * index)
    alone = compared(database, "a", "b").contrasts[0].of_episodes
    both = compared(database, "a", "b", "c").contrasts

    assert alone is not None and both[0].of_episodes is not None
    assert both[0].of_episodes.p >= alone.p
    assert sorted(c.of_episodes.p for c in both if c.of_episodes)[0] > 0


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (["a"], ConfigError, "expected two or more"),
        (["a", "a"], ConfigError, "both name run 1"),
        (["a", "1"], ConfigError, "both name run 1"),
        (["a", "3"], ConfigError, "'a' and '3' both name run 3"),
        (["a", "nowhere"], RunNotFoundError, "nowhere"),
        (["a", "seed=1"], ConfigError, "matches 2 groups of runs, which differ in outer.lr"),
        (["a", "seed=7"], ConfigError, "no run matches 'seed=7'"),
        (["a", "seed="], ConfigError, "the filter ends"),
    ],
)
def test_names_that_are_no_arms_are_refused(
    database: Database, names: list[str], error: type[Exception], said: str
) -> None:
    add(database, "a"), add(database, "b", lr=0.2), add(database, "a", seed=2)

    with database.session(read_only=True) as session, pytest.raises(error) as caught:
        find_arms(session, names)
    assert said in str(caught.value) and "\n" not in str(caught.value)
