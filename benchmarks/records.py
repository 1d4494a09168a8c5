"""The time to read and compare runs, and to insert rows of jobs, in a large database.

    python -m benchmarks.records [--runs 1000] [--jobs 1000000] [--repeats 9] [--json FILE]
                                 [--only sqlite postgresql]

Rows are generated in a new SQLite file and in a PostgreSQL server that the benchmark starts. A
tenth of the jobs and 10,000 outer steps belong to the newest run; the others share the rest. Times
are of the queries and of making the records, without the start of Python. The query plans of every
statement are checked: none may read all jobs.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, text

from metafleet.db.engine import Database, upgrade
from metafleet.db.records import (
    EpisodeResultsRecord,
    EvaluationRecord,
    JobRecord,
    NewRun,
    OuterStepRecord,
    RunRecord,
    RunStatus,
)
from metafleet.db.repositories import (
    EpisodeResultsRepository,
    EvaluationRepository,
    JobRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.orchestrator.recording.rows import EpochRow, write_rows
from metafleet.orchestrator.records.arms import find_arms
from metafleet.orchestrator.records.comparison import compare_arms
from metafleet.orchestrator.records.difference import shipped_config
from metafleet.orchestrator.records.run_view import RunView
from metafleet.orchestrator.records.selecting import Selection, select_groups, select_runs
from metafleet.splits import META_TEST, META_VAL
from tests.postgres import PostgresServer

BATCH = 1_000
N_TIMED_JOBS = 20_000
STEPS_OF_BIG_RUN = 10_000
SHARDS = 10
N_EPISODES = 600
LEAST_ROWS_PER_S = 5_000
LIMITS_MS = {
    "list": 200,
    "list --where": 200,
    "list --where --sort": 200,
    "list --group": 200,
    "compare 20 runs": 1_000,
    "show": 300,
    "show of the largest run": 300,
}


def main() -> None:
    """Generate, measure and print; exit with status 1 if something is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    if options.runs < 300:
        parser.error(f"--runs {options.runs}; expected at least 300, which the comparison needs")
    measured = {}
    for kind in options.only:
        with new_database(kind) as database:
            measured[kind] = measure(database, options)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2))
    if any(row["is_slow"] for rows in measured.values() for row in rows.values()):
        raise SystemExit(1)


@contextmanager
def new_database(kind: str) -> Iterator[Database]:
    """Open an empty SQLite or PostgreSQL database for as long as the block runs."""
    if kind == "sqlite":
        with (
            tempfile.TemporaryDirectory() as folder,
            Database.open(f"sqlite:///{folder}/x.db") as database,
        ):
            yield database
        return
    server = PostgresServer()
    try:
        url = server.new_database()
        upgrade(url)
        with Database.open(url) as database:
            yield database
    finally:
        server.remove()


def measure(database: Database, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Fill a database and measure it."""
    print(f"{database.url.partition(':')[0]}: {options.runs} runs, {options.jobs} jobs")
    rate = fill(database, options.runs, options.jobs)
    found: dict[str, dict[str, Any]] = {
        "jobs inserted": {"per_s": rate, "is_slow": rate < LEAST_ROWS_PER_S}
    }
    print(f"  {'jobs inserted':<26} {rate:>8.0f} rows/s, wanted {LEAST_ROWS_PER_S}")
    for name, work in reads(options.runs).items():
        require_no_scan(database, work)
        seconds = [timed(database, work) for _ in range(options.repeats)]
        median = 1e3 * statistics.median(seconds)
        found[name] = {"ms": median, "most_ms": 1e3 * max(seconds)}
        found[name]["is_slow"] = median > LIMITS_MS[name]
        print(
            f"  {name:<26} {median:>8.1f} ms, at most {1e3 * max(seconds):.1f}, "
            f"wanted {LIMITS_MS[name]}"
        )
    return found


def reads(n_runs: int) -> dict[str, Callable[[Connection], Any]]:
    """Return what the commands read, by name."""
    where = Selection.parse(["learner.name=maml and outer.lr<0.01 and best>90%"], limit=20)
    best_first = replace(where, sort=("-best",))
    return {
        "list": lambda session: select_runs(session, Selection(limit=20)),
        "list --where": lambda session: select_runs(session, where),
        "list --where --sort": lambda session: select_runs(session, best_first),
        "list --group": lambda session: select_groups(session, Selection()),
        "compare 20 runs": lambda session: compare_arms(
            session, find_arms(session, [str(n) for n in range(1, 300, 15)]), META_TEST
        ),
        "show": lambda session: RunView.read(session, str(n_runs // 2)),
        "show of the largest run": lambda session: RunView.read(session, "latest"),
    }


def timed(database: Database, work: Callable[[Connection], Any]) -> float:
    """Return the seconds of a read, including its transaction."""
    started = time.perf_counter()
    with database.session(read_only=True) as session:
        work(session)
    return time.perf_counter() - started


def require_no_scan(database: Database, work: Callable[[Connection], Any]) -> None:
    """Check that no statement of a read goes through all jobs."""
    statements: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *others: Any) -> None:
        statements.append((statement, parameters))

    with database.session(read_only=True) as session:
        event.listen(session, "before_cursor_execute", note)
        work(session)
        event.remove(session, "before_cursor_execute", note)
        explain = "EXPLAIN QUERY PLAN " if session.dialect.name == "sqlite" else "EXPLAIN "
        for statement, parameters in statements:
            rows = session.exec_driver_sql(explain + statement, parameters)
            plan = "\n".join(" ".join(map(str, row)) for row in rows)
            if "SCAN jobs" in plan or "Seq Scan on jobs" in plan:
                raise SystemExit(f"a statement reads all jobs:\n{statement}\n{plan}")


def fill(database: Database, n_runs: int, n_jobs: int) -> float:
    """Generate rows. Return how many rows of jobs a second a run's recorder can insert."""
    with database.session() as session:
        runs = [add_run(session, index) for index in range(n_runs)]
    of_big_run = n_jobs // 10
    of_each = (n_jobs - of_big_run) // (n_runs - 1)
    for run in runs[:-1]:
        with database.session() as session:
            JobRepository(session).upsert_many(run.id, make_jobs(0, of_each))
    with database.session() as session:
        steps = [make_step(step) for step in range(1, STEPS_OF_BIG_RUN + 1)]
        OuterStepRepository(session).upsert_many(runs[-1].id, steps)
        jobs = make_jobs(N_TIMED_JOBS, of_big_run)
        JobRepository(session).upsert_many(runs[-1].id, jobs)
        session.execute(text("ANALYZE"))
    rows = [EpochRow(0, job) for job in make_jobs(0, N_TIMED_JOBS)]
    started = time.perf_counter()
    for first in range(0, N_TIMED_JOBS, BATCH):
        write_rows(database, runs[-1], rows[first : first + BATCH], epoch=0, own_from=0)
    return N_TIMED_JOBS / (time.perf_counter() - started)


def add_run(session: Connection, index: int) -> RunRecord:
    """Add a finished run of one of three experiments, with 20 validations and 100 outer steps."""
    experiment = ("omniglot-protonet", "omniglot-maml", "sinusoid-maml")[index % 3]
    config = shipped_config(experiment)
    assert config is not None
    config["seed"] = 1 + index // 3 % 5
    config["outer"] = {**config["outer"], "lr": 0.001 * (1 + index // 15 % 20)}
    runs = RunRepository(session)
    new = NewRun(
        experiment=experiment,
        name=experiment,
        seed=config["seed"],
        n_steps=config["outer"]["steps"],
        config=config,
        code_version="0",
        data_digest="d" * 64,
    )
    run = runs.add(new)
    runs.mark_status(run.id, RunStatus.FINISHED)
    OuterStepRepository(session).upsert_many(run.id, [make_step(step) for step in range(1, 101)])
    evaluations = [make_evaluation(META_VAL, step) for step in range(1, 21)]
    evaluations.append(make_evaluation(META_TEST, 20))
    EvaluationRepository(session).upsert_many(run.id, evaluations)
    EpisodeResultsRepository(session).upsert_many(run.id, [make_episodes(index)])
    return run


def make_step(step: int) -> OuterStepRecord:
    """Return an outer step."""
    return OuterStepRecord(
        step=step, loss=1 / step, accuracy=0.9, grad_norm=1.0, lr=1e-3, episodes=16, step_s=0.1
    )


def make_jobs(first: int, end: int) -> list[JobRecord]:
    """Return the jobs of numbers ``first`` to ``end - 1``, ten in each step."""
    return [
        JobRecord(
            stream="train",
            step=1 + number // SHARDS,
            shard=number % SHARDS,
            attempt=1,
            worker=f"worker{number % 8}@host",
            device="cpu",
            outcome="ok",
            queue_wait_s=0.01,
            compute_s=0.1,
            payload_bytes=100_000,
            episodes=4,
            sent_us=1_700_000_000_000_000 + 10_000 * number,
            round_trip_s=0.12,
        )
        for number in range(first, end)
    ]


def make_evaluation(split: str, step: int) -> EvaluationRecord:
    """Return an evaluation, better with every step."""
    return EvaluationRecord(
        step=step,
        split=split,
        label="trained",
        episodes=100,
        loss=1 / step,
        loss_ci95=0.01,
        accuracy=1 - 0.1 / step,
        accuracy_ci95=0.01,
        batch_norm="batch",
        is_best=split == META_VAL,
    )


def make_episodes(index: int) -> EpisodeResultsRecord:
    """Return the results of the episodes of a test, drawn at random."""
    draw = random.Random(index)
    return EpisodeResultsRecord(
        step=20,
        split=META_TEST,
        label="trained",
        episodes=N_EPISODES,
        losses=tuple(draw.random() for _ in range(N_EPISODES)),
        accuracies=tuple(draw.randrange(76) / 75 for _ in range(N_EPISODES)),
    )


if __name__ == "__main__":
    main()
