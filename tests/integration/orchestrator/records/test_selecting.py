"""Runs are found, sorted and grouped alike on SQLite and PostgreSQL."""

import math
import statistics
from collections.abc import Sequence

import pytest
from scipy import stats

from metafleet.db.engine import Database
from metafleet.db.records import EvaluationRecord, NewRun, RunRecord, RunStatus
from metafleet.db.repositories import EvaluationRepository, RunNotes, RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.records.selecting import Selection, select_groups, select_runs


def add(
    database: Database,
    *,
    learner: str = "maml",
    lr: float = 0.01,
    seed: int = 1,
    code: str = "1",
    status: RunStatus = RunStatus.FINISHED,
    validations: Sequence[float] = (),
    test: float | None = None,
) -> RunRecord:
    config = {"name": learner, "seed": seed, "learner": {"name": learner}, "outer": {"lr": lr}}
    new = NewRun(
        experiment=learner, name=learner, seed=seed, n_steps=9, config=config, code_version=code
    )
    rows = [
        evaluation(step, value, is_best=value >= max(validations[:step]))
        for step, value in enumerate(validations, start=1)
    ]
    if test is not None:
        rows.append(evaluation(len(validations), test, split="meta_test"))
    with database.session() as session:
        run = RunRepository(session).add(new)
        RunRepository(session).mark_status(run.id, status)
        EvaluationRepository(session).upsert_many(run.id, rows)
    return run


def evaluation(
    step: int,
    accuracy: float,
    *,
    split: str = "meta_val",
    label: str = "trained",
    episodes: int = 100,
    is_best: bool = False,
) -> EvaluationRecord:
    return EvaluationRecord(
        step=step,
        split=split,
        label=label,
        episodes=episodes,
        loss=1 - accuracy,
        loss_ci95=0.02,
        accuracy=accuracy,
        accuracy_ci95=0.01,
        batch_norm="batch",
        is_best=is_best,
    )


def listed(database: Database, *filters: str, sort: str = "", **options: object) -> list[int]:
    with database.session(read_only=True) as session:
        return [e.run.id for e in select_runs(session, Selection.parse(filters, sort, **options))]


def test_filters_find_the_runs_for_which_they_hold(database: Database) -> None:
    add(database, learner="maml", lr=0.01, validations=[0.8, 0.9])
    add(database, learner="protonet", lr=0.001, status=RunStatus.FAILED)
    add(database, learner="anil", lr=0.1, validations=[0.95], test=0.93)

    assert listed(database) == [3, 2, 1]
    assert listed(database, limit=2) == [3, 2]
    assert listed(database, "outer.lr<0.05") == [2, 1]
    assert listed(database, "outer.lr<0.05 and status=finished") == [1]
    assert listed(database, "status=finished or outer.lr=0.001") == [3, 2, 1]
    assert listed(database, "not status=failed", "best>0.85") == [3, 1]
    assert listed(database, "experiment=anil") == [3]
    assert listed(database, "experiment=nothing") == []
    assert listed(database, "test", limit=1) == [3]
    assert listed(database, "created<1h and not created<0s") == [3, 2, 1]
    assert listed(database, "finished") == [3, 2, 1]


def test_runs_are_sorted_by_any_key_with_missing_values_last(database: Database) -> None:
    add(database, lr=0.01, validations=[0.8, 0.9])
    add(database, lr=0.001)
    add(database, lr=0.1, validations=[0.95, 0.7])
    add(database, lr=0.01, validations=[0.99])

    assert listed(database, sort="best") == [1, 3, 4, 2]
    assert listed(database, sort="-best") == [4, 3, 1, 2]
    assert listed(database, sort="last") == [3, 1, 4, 2]
    assert listed(database, sort="outer.lr,-best") == [2, 4, 1, 3]
    assert listed(database, sort="-best", limit=2) == [4, 3]


def test_the_best_is_the_marked_validation_and_the_last_has_the_latest_step(
    database: Database,
) -> None:
    run = add(database, validations=[0.5, 0.8, 0.7], test=0.6)
    with database.session() as session:
        rows = [
            evaluation(3, 0.72, episodes=500),  # the same state, on more episodes
            evaluation(2, 0.81, episodes=50),  # the best state, on fewer
            evaluation(9, 0.99, label="trained, k_shot=5"),  # other episodes
            evaluation(9, 0.99, label="initialisation"),
        ]
        EvaluationRepository(session).upsert_many(run.id, rows)

    with database.session(read_only=True) as session:
        (entry,) = select_runs(session, Selection())
    assert (entry.value("best"), entry.value("best.step")) == (0.8, 2)
    assert (entry.value("last"), entry.value("last.step")) == (0.72, 3)
    assert (entry.value("test"), entry.value("test.ci95")) == (0.6, 0.01)
    assert entry.value("best.loss") == pytest.approx(0.2)


def test_in_regression_the_result_is_the_loss(database: Database) -> None:
    run = add(database)
    row = EvaluationRecord(
        step=1,
        split="meta_val",
        label="trained",
        episodes=4,
        loss=0.25,
        loss_ci95=math.nan,
        accuracy=None,
        accuracy_ci95=None,
        batch_norm="none",
        is_best=True,
    )
    with database.session() as session:
        EvaluationRepository(session).upsert_many(run.id, [row])

    with database.session(read_only=True) as session:
        (entry,) = select_runs(session, Selection())
    assert (entry.value("best"), entry.value("best.ci95")) == (0.25, None)


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ({"filters": ["lerner.name=x"]}, "no run has the key 'lerner.name'; did you mean learner"),
        ({"filters": ["status=failed and outer.lx=1"]}, "did you mean outer.lr"),
        ({"filters": [], "sort": "-bestt"}, "no run has the key 'bestt'; did you mean best"),
        ({"filters": [], "shown_keys": ("zzzz",)}, "docs/reference/filters.md"),
        ({"filters": ["runs=2"]}, "no run has the key 'runs'"),
    ],
)
def test_a_key_that_no_run_has_is_refused_with_the_nearest_ones(
    database: Database, selection: dict[str, object], said: str
) -> None:
    add(database)
    wanted = Selection.parse(**selection)  # type: ignore[arg-type]

    for select in (select_runs, select_groups):
        with pytest.raises(ConfigError) as caught, database.session(read_only=True) as session:
            select(session, wanted)
        assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_of_runs_that_the_database_leaves_out_is_known(database: Database) -> None:
    add(database, status=RunStatus.FAILED)

    assert listed(database, "status=finished and outer.lr=0.01") == []


def test_archived_runs_are_listed_only_if_they_are_asked_for(database: Database) -> None:
    kept, hidden = add(database), add(database)
    with database.session() as session:
        RunNotes(session).set_archived(hidden.id, True)

    assert listed(database) == [kept.id]
    assert listed(database, with_archived=True) == [hidden.id, kept.id]
    assert listed(database, "archived") == [hidden.id]
    assert listed(database, "not archived or seed=1") == [hidden.id, kept.id]


def test_tags_and_notes_can_be_filtered(database: Database) -> None:
    run, other = add(database), add(database)
    with database.session() as session:
        notes = RunNotes(session)
        notes.add_tags(run.id, ["paper", "v2", "paper"])
        notes.set_note(run.id, "Łódź: the good one")

    assert listed(database, "tags=paper and tags=v2") == [run.id]
    assert listed(database, "tags!=paper") == [other.id]
    assert listed(database, "note~GOOD") == [run.id]
    with database.session() as session:
        RunNotes(session).remove_tags(run.id, ["paper"])
        assert RunNotes(session).tags() == {run.id: ("v2",)}
    with (
        pytest.raises(ConfigError, match="no tag 'paper'; its tags are: v2"),
        database.session() as session,
    ):
        RunNotes(session).remove_tags(run.id, ["v2", "paper"])
    assert listed(database, "tags=v2") == [run.id]


@pytest.mark.parametrize("tag", ["", "two words", "x" * 65, "a\0", "line\n"])
def test_a_tag_that_a_filter_could_not_name_is_refused(database: Database, tag: str) -> None:
    run = add(database)

    with pytest.raises(ConfigError, match="no tag was set"), database.session() as session:
        RunNotes(session).add_tags(run.id, ["good", tag])
    with database.session(read_only=True) as session:
        assert RunNotes(session).tags() == {}


def test_groups_are_of_runs_that_differ_in_nothing_but_the_seed(database: Database) -> None:
    values = [0.90, 0.93, 0.95]
    for seed, value in enumerate(values):
        add(database, seed=seed, validations=[value, 0.8], test=value - 0.1)
    add(database, seed=9, status=RunStatus.FAILED)  # without results
    add(database, seed=0, validations=[0.90, 0.8])  # the same bits again
    add(database, seed=0, lr=0.1, validations=[0.99])
    add(database, seed=0, code="2", validations=[0.5])

    with database.session(read_only=True) as session:
        groups = select_groups(session, Selection.parse([], "-seeds", limit=1))
        best_first = select_groups(session, Selection.parse([], "-best"))
    (group,) = groups
    low, high = stats.t.interval(0.95, 2, scale=statistics.stdev(values) / math.sqrt(3))
    best, last, test = (group.mean(key) for key in ("best", "last", "test"))

    assert (group.value("runs"), group.value("seeds")) == (5, 4)
    assert best is not None and last is not None and test is not None
    assert (best.n, best.mean) == (3, pytest.approx(statistics.fmean(values)))
    assert best.ci95 == pytest.approx((high - low) / 2)
    assert (last.n, last.mean, last.ci95) == (3, pytest.approx(0.8), pytest.approx(0, abs=1e-12))
    assert test.mean == pytest.approx(best.mean - 0.1)
    assert group.value("status") == ["finished", "failed"]
    assert [g.value("runs") for g in best_first] == [1, 5, 1]
    assert best_first[0].mean("best").ci95 is None  # type: ignore[union-attr]


def test_a_group_counts_all_matching_runs(database: Database) -> None:
    for seed in range(30):
        add(database, seed=seed, validations=[seed / 100])

    with database.session(read_only=True) as session:
        (group,) = select_groups(session, Selection.parse(["seed<25"], limit=1))
    assert group.value("runs") == 25
    assert group.value("best") == pytest.approx(0.12)


def test_a_number_of_the_configuration_is_not_ordered_with_a_text(database: Database) -> None:
    add(database, lr=0.01)

    with pytest.raises(ConfigError, match=r"--where: outer\.lr<'abc'; expected a number"):
        listed(database, "outer.lr<abc")
    assert listed(database, "learner.name<n") == [1]
    assert listed(database, "outer.lr=abc") == []
