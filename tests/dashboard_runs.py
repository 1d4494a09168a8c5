"""Runs with steps and evaluations, for tests of the dashboard."""

from typing import Any

from metafleet.db.engine import Database
from metafleet.db.records import EvaluationRecord, NewRun, OuterStepRecord, RunRecord, RunStatus
from metafleet.db.repositories import EvaluationRepository, OuterStepRepository, RunRepository
from metafleet.splits import META_TEST, META_VAL

HOSTILE = "<img src=x onerror=alert(1)>\"'`&<script>alert(2)</script>"


def add_run(
    database: Database,
    *,
    name: str = "omniglot",
    seed: int = 1,
    steps: int = 20,
    status: RunStatus = RunStatus.FINISHED,
    accuracy: float = 0.9,
    error: str | None = None,
    **config: Any,
) -> RunRecord:
    """Add a run with steps, four validations and, if it is finished, a test."""
    with database.session() as session:
        runs = RunRepository(session)
        run = runs.add(
            NewRun(
                experiment="omniglot",
                name=name,
                seed=seed,
                n_steps=max(steps, 20),
                config={"outer": {"lr": 0.01, "steps": 20}, "seed": seed, **config},
                code_version="0.5.0",
                package_versions={"torch": "2.13.0"},
                data_digest="d" * 64,
                fingerprint={"cpu": "x86"},
                host="lab",
            )
        )
        OuterStepRepository(session).upsert_many(run.id, map(make_step, range(1, steps + 1)))
        found = [
            make_evaluation(META_VAL, step, accuracy - 0.2 / step)
            for step in range(steps // 4, steps + 1, max(1, steps // 4))
        ]
        if status is RunStatus.FINISHED:
            found.append(make_evaluation(META_TEST, steps, accuracy - 0.01))
        EvaluationRepository(session).upsert_many(run.id, found)
        runs.set_progress(run.id, steps_done=steps)
        runs.mark_status(run.id, RunStatus.RUNNING)
        if status is not RunStatus.RUNNING:
            runs.mark_status(run.id, status, error=error)
        return runs.get(run.id)


def make_step(step: int) -> OuterStepRecord:
    return OuterStepRecord(
        step=step,
        loss=2 / step,
        accuracy=1 - 0.8 / step,
        grad_norm=1 + 0.1 * (step % 7),
        lr=0.01,
        episodes=16,
        step_s=0.1,
        attempts=4,
        workers_alive=2,
    )


def make_evaluation(split: str, step: int, accuracy: float) -> EvaluationRecord:
    return EvaluationRecord(
        step=step,
        split=split,
        label="trained",
        episodes=100,
        loss=1 / step,
        loss_ci95=0.02,
        accuracy=accuracy,
        accuracy_ci95=0.01,
        batch_norm="batch",
        is_best=split == META_VAL,
    )
