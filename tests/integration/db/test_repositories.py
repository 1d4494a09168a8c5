"""What every repository promises, over SQLite and over PostgreSQL."""

import math
from array import array
from datetime import UTC, datetime, timedelta, timezone

import pytest

from metafleet.db.engine import Database
from metafleet.db.records import (
    CheckpointRecord,
    EpisodeResultsRecord,
    EvaluationRecord,
    JobTotals,
    RunStatus,
    WorkerJobs,
)
from metafleet.db.repositories import (
    CheckpointRepository,
    EpisodeResultsRepository,
    EvaluationRepository,
    ExperimentRepository,
    JobRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.db.repositories.pruning import count_job_rows, delete_job_rows
from metafleet.errors import ConfigError, DatabaseError, FencedError, RunNotFoundError
from tests.databases import add_run, make_jobs, make_step, new_run


class TestExperiments:
    def test_the_same_name_is_the_same_experiment(self, database: Database) -> None:
        with database.session() as session:
            first = ExperimentRepository(session).get_or_add("e1")
        with database.session() as session:
            again = ExperimentRepository(session).get_or_add("e1")
            ExperimentRepository(session).get_or_add("a0")

        assert again == first and first.created_at.tzinfo is UTC
        with database.session(read_only=True) as session:
            assert [e.name for e in ExperimentRepository(session).list()] == ["a0", "e1"]
            assert ExperimentRepository(session).find("e2") is None

    @pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\0b"])
    def test_a_name_that_cannot_be_kept_is_refused(self, database: Database, name: str) -> None:
        with pytest.raises(ConfigError, match="experiment name"), database.session() as session:
            ExperimentRepository(session).get_or_add(name)


class TestRuns:
    @pytest.mark.parametrize("seed", [0, 17, 2**63, 2**64 - 1])
    def test_a_run_comes_back_as_it_was_added(self, database: Database, seed: int) -> None:
        new = new_run(seed=seed)
        with database.session() as session:
            added = RunRepository(session).add(new)

        with database.session(read_only=True) as session:
            found = RunRepository(session).get(added.id)
        assert found == added
        assert (found.seed, found.config, found.experiment) == (seed, new.config, "e1")
        assert (found.status, found.epoch, found.steps_done) == (RunStatus.CREATED, 0, 0)
        assert datetime.now(UTC) - found.created_at < timedelta(minutes=1)

    @pytest.mark.parametrize("seed", [-1, 2**64])
    def test_a_seed_out_of_range_is_refused(self, database: Database, seed: int) -> None:
        with pytest.raises(ConfigError, match=f"seed={seed}"), database.session() as session:
            RunRepository(session).add(new_run(seed=seed))

    def test_a_run_is_found_by_id_digits_uid_name_and_latest(self, database: Database) -> None:
        first, second = add_run(database, name="a"), add_run(database, name="a")
        third = add_run(database, name="999")

        with database.session(read_only=True) as session:
            runs = RunRepository(session)
            assert runs.get(first.id) == runs.get(str(first.id)) == runs.get(first.uid) == first
            assert runs.get("a") == second
            assert runs.get("latest") == runs.get("999") == third

    @pytest.mark.parametrize(
        "ref", [0, -1, 5, 2**31, 2**70, "x", "", "5", "9" * 30, "٣", "a\0", "-1"]
    )
    def test_the_error_for_an_unknown_run_lists_the_existing_runs(
        self, database: Database, ref: int | str
    ) -> None:
        run = add_run(database)

        with database.session(read_only=True) as session:
            assert RunRepository(session).find(ref) is None
            with pytest.raises(RunNotFoundError) as caught:
                RunRepository(session).get(ref)
        assert repr(ref) in str(caught.value) and run.uid in str(caught.value)

    def test_an_empty_database_says_how_to_start(self, database: Database) -> None:
        with (
            database.session(read_only=True) as session,
            pytest.raises(RunNotFoundError, match="metafleet submit"),
        ):
            RunRepository(session).get("latest")

    def test_runs_are_listed_newest_first_and_filtered(self, database: Database) -> None:
        runs = [add_run(database, name=f"r{i}") for i in range(5)]
        with database.session() as session:
            RunRepository(session).mark_status(runs[1].id, RunStatus.RUNNING)
            RunRepository(session).add(new_run(experiment="e2"))

        with database.session(read_only=True) as session:
            listed = RunRepository(session)
            assert [r.name for r in listed.list(experiment="e1", limit=2)] == ["r4", "r3"]
            assert [r.id for r in listed.list(status=RunStatus.RUNNING)] == [runs[1].id]
            assert len(listed.list(limit=None)) == 6

    def test_a_status_sets_times_and_error(self, database: Database) -> None:
        run = add_run(database)
        seen = []
        for status, error in (
            (RunStatus.RUNNING, None),
            (RunStatus.FAILED, "no\0 room"),
            (RunStatus.RUNNING, None),
            (RunStatus.FINISHED, None),
        ):
            with database.session() as session:
                RunRepository(session).mark_status(run.id, status, error=error)
                seen.append(RunRepository(session).get(run.id))

        running, failed, resumed, finished = seen
        assert running.started_at is not None and running.finished_at is None
        assert failed.error == "no room" and failed.finished_at is not None
        assert (resumed.error, resumed.finished_at) == (None, None)
        assert finished.started_at == running.started_at and finished.status.is_final

    def test_a_calibration_is_written_once(self, database: Database) -> None:
        run = add_run(database)
        first = {"episodes_per_job": 4, "classes": [{"device": "cpu", "hardware": ["cpu"]}]}

        for offered in (first, {"episodes_per_job": 9}):
            with database.session() as session:
                assert RunRepository(session).keep_calibration(run.id, offered) == first

        assert run.calibration is None
        with database.session(read_only=True) as session:
            assert RunRepository(session).get(run.id).calibration == first
        with database.session() as session, pytest.raises(RunNotFoundError):
            RunRepository(session).keep_calibration(run.id + 1, first)

    def test_progress_keeps_what_is_not_given(self, database: Database) -> None:
        run = add_run(database)
        with database.session() as session:
            runs = RunRepository(session)
            runs.set_progress(run.id, steps_done=4)
            runs.set_progress(run.id, checkpoint_sha256="a" * 64)
            runs.set_progress(run.id)
            runs.set_provenance(run.id, host="other", fingerprint={"threads": "2"})

            found = runs.get(run.id)
        assert (found.steps_done, found.checkpoint_sha256) == (4, "a" * 64)
        assert (found.host, found.fingerprint) == ("other", {"threads": "2"})

    def test_only_the_holder_of_the_epoch_writes(self, database: Database) -> None:
        run = add_run(database)
        with database.session() as session:
            assert RunRepository(session).next_epoch(run.id) == 1
            assert RunRepository(session).claim(run.id, seen_epoch=1) == 2

        for write in (
            lambda runs: runs.hold(run.id, epoch=1),
            lambda runs: runs.claim(run.id, seen_epoch=1),
        ):
            with pytest.raises(FencedError, match="at epoch 2, not"), database.session() as session:
                write(RunRepository(session))
        with database.session() as session:
            RunRepository(session).hold(run.id, epoch=2)
            assert RunRepository(session).get(run.id).status is RunStatus.CREATED

    def test_nothing_is_written_for_a_run_that_is_not_there(self, database: Database) -> None:
        for write in (
            lambda runs: runs.hold(7, epoch=0),
            lambda runs: runs.next_epoch(7),
            lambda runs: runs.claim(7, seen_epoch=0),
            lambda runs: runs.mark_status(7, RunStatus.FAILED),
        ):
            with pytest.raises(RunNotFoundError, match="no run 7"), database.session() as session:
                write(RunRepository(session))


class TestOuterSteps:
    def test_steps_come_back_in_order_and_a_replay_changes_nothing(
        self, database: Database
    ) -> None:
        run, steps = add_run(database), [make_step(step) for step in (3, 1, 2)]
        for _ in range(2):
            with database.session() as session:
                OuterStepRepository(session).upsert_many(run.id, steps)

        with database.session(read_only=True) as session:
            repository = OuterStepRepository(session)
            assert repository.list(run.id) == tuple(sorted(steps, key=lambda s: s.step))
            assert [s.step for s in repository.list(run.id, after_step=1, limit=1)] == [2]

    def test_a_row_is_replaced_or_kept_as_asked(self, database: Database) -> None:
        run = add_run(database)
        with database.session() as session:
            steps = OuterStepRepository(session)
            steps.upsert_many(run.id, [make_step(1, loss=1.0), make_step(1, loss=2.0)])
            steps.upsert_many(run.id, [make_step(1, loss=3.0)], overwrite=False)
            steps.upsert_many(run.id, [])
            assert [s.loss for s in steps.list(run.id)] == [2.0]

    @pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 5e-324, 0.1 + 0.2])
    def test_a_loss_keeps_its_bits(self, database: Database, loss: float) -> None:
        run = add_run(database)
        with database.session() as session:
            OuterStepRepository(session).upsert_many(run.id, [make_step(1, loss=loss)])

        with database.session(read_only=True) as session:
            [step] = OuterStepRepository(session).list(run.id)
        assert step.loss == loss or (math.isnan(loss) and math.isnan(step.loss))

    def test_a_step_of_no_run_is_refused(self, database: Database) -> None:
        with pytest.raises(DatabaseError, match=r"(?i)foreign key"), database.session() as session:
            OuterStepRepository(session).upsert_many(41, [make_step(1)])


class TestJobs:
    def test_jobs_are_counted_by_worker_and_in_all(self, database: Database) -> None:
        run, other = add_run(database), add_run(database)
        with database.session() as session:
            jobs = JobRepository(session)
            jobs.upsert_many(run.id, make_jobs(1))
            jobs.upsert_many(run.id, make_jobs(1))
            jobs.upsert_many(other.id, make_jobs(1))
            by_worker, totals = jobs.count_by_worker(run.id), jobs.totals(run.id)

        assert by_worker == (
            WorkerJobs(worker="w0@host", device="cpu", jobs=2, episodes=8, compute_s=2.2),
            WorkerJobs(worker="w1@host", device="cpu", jobs=2, episodes=8, compute_s=4.2),
        )
        assert (totals.jobs, totals.retried, totals.episodes) == (4, 1, 16)
        assert totals.payload_bytes == 12_000_000_000 and type(totals.payload_bytes) is int
        assert totals.compute_s == pytest.approx(6.4)

    def test_a_run_without_jobs_has_zeros(self, database: Database) -> None:
        with database.session(read_only=True) as session:
            assert JobRepository(session).count_by_worker(1) == ()
            assert JobRepository(session).totals(1) == JobTotals(
                jobs=0,
                retried=0,
                episodes=0,
                queue_wait_s=0.0,
                compute_s=0.0,
                payload_bytes=0,
            )

    def test_jobs_are_listed_by_stream_and_step(self, database: Database) -> None:
        run = add_run(database)
        rows = [*make_jobs(2), *make_jobs(1), *make_jobs(1, stream="meta_val")]
        with database.session() as session:
            jobs = JobRepository(session)
            jobs.upsert_many(run.id, rows)

            assert len(jobs.list(run.id)) == 12
            assert jobs.list(run.id, stream="meta_train", step=1) == tuple(make_jobs(1))

    def test_rows_of_jobs_are_deleted_a_few_steps_at_a_time(self, database: Database) -> None:
        run, other = add_run(database), add_run(database)
        with database.session() as session:
            for run_id in (run.id, other.id):
                rows = [*make_jobs(2), *make_jobs(1), *make_jobs(3), *make_jobs(1, stream="a")]
                JobRepository(session).upsert_many(run_id, rows)
            assert count_job_rows(session, run.id) == 16
            assert delete_job_rows(session, run.id) == 0  # it has not ended
            RunRepository(session).mark_status(run.id, RunStatus.FINISHED)
            found = [delete_job_rows(session, run.id, at_once=5) for _ in range(4)]

        assert found == [4, 8, 4, 0]  # stream a, steps 1 and 2, step 3
        with database.session(read_only=True) as session:
            assert count_job_rows(session, run.id) == 0
            assert count_job_rows(session, other.id) == 16


class TestEvaluationsAndCheckpoints:
    def test_a_replayed_validation_is_there_once_and_keeps_its_time(
        self, database: Database
    ) -> None:
        run = add_run(database)
        noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
        for accuracy, at in ((0.5, noon), (0.6, noon + timedelta(days=1))):
            with database.session() as session:
                EvaluationRepository(session).upsert_many(
                    run.id, [_evaluation(accuracy=accuracy, created_at=at)]
                )

        with database.session(read_only=True) as session:
            [found] = EvaluationRepository(session).list(run.id)
        assert found.accuracy == 0.6
        assert found.created_at == noon and found.created_at.tzinfo is UTC

    def test_judging_again_keeps_what_was_best(self, database: Database) -> None:
        run = add_run(database)
        with database.session() as session:
            evaluations = EvaluationRepository(session)
            evaluations.upsert_many(run.id, [_evaluation(accuracy=0.5, is_best=True)])
            again = [_evaluation(accuracy=0.6), _evaluation(step=200)]
            evaluations.upsert_many(run.id, again, keep=("is_best",))
            found = [(e.accuracy, e.is_best) for e in evaluations.list(run.id)]
            assert found == [(0.6, True), (0.9, False)]

            evaluations.upsert_many(run.id, [_evaluation(accuracy=0.7)])
            assert not evaluations.list(run.id)[0].is_best

    def test_evaluations_are_listed_by_split_and_label(self, database: Database) -> None:
        run = add_run(database)
        with database.session() as session:
            evaluations = EvaluationRepository(session)
            evaluations.upsert_many(
                run.id,
                [
                    _evaluation(step=100, is_best=True),
                    _evaluation(step=200, is_best=True),
                    _evaluation(step=300),
                    _evaluation(step=300, split="meta_test", accuracy=None, accuracy_ci95=None),
                ],
            )

            assert [e.accuracy for e in evaluations.list(run.id, split="meta_test")] == [None]
            assert len(evaluations.list(run.id, label="trained")) == 4

    def test_results_of_episodes_keep_their_bits_and_order(self, database: Database) -> None:
        run = add_run(database)
        odd = (0.1, 1 / 3, math.inf, -0.0, 5e-324, math.nan)
        rows = [_episodes(odd, None), _episodes((1.0, 2.0), (0.5, 2 / 3))]
        with database.session() as session:
            EpisodeResultsRepository(session).upsert_many(run.id, rows)

        with database.session(read_only=True) as session:
            repository = EpisodeResultsRepository(session)
            few, many = repository.list(run.id, split="meta_test", label="trained")
            chosen = repository.find(run.id, split="meta_test", label="trained", step=7)
            assert repository.find(run.id, split="meta_val", label="trained", step=7) is None
        assert (few.losses, few.accuracies) == ((1.0, 2.0), (0.5, 2 / 3))
        assert array("d", many.losses).tobytes() == array("d", odd).tobytes()
        assert many.accuracies is None
        assert chosen is not None and chosen.episodes == 6

    def test_the_newest_checkpoint_comes_first(self, database: Database) -> None:
        run = add_run(database)
        rows = [
            CheckpointRecord(step=step, path=f"runs/{step}", sha256="f" * 64, size_bytes=2**40)
            for step in (25, 75, 50)
        ]
        with database.session() as session:
            checkpoints = CheckpointRepository(session)
            assert checkpoints.find_last(run.id) is None
            checkpoints.upsert_many(run.id, rows)

            assert [c.step for c in checkpoints.list(run.id)] == [75, 50, 25]
            assert checkpoints.find_last(run.id) == rows[1]


class TestTransactions:
    def test_an_error_takes_back_the_whole_block(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.session() as session:
            RunRepository(session).add(new_run())
            1 / 0  # noqa: B018 - any error of the caller's

        with database.session(read_only=True) as session:
            assert RunRepository(session).list() == ()

    def test_a_released_savepoint_goes_with_its_transaction(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.session() as session:
            with session.begin_nested():
                RunRepository(session).add(new_run())
            1 / 0  # noqa: B018 - any error of the caller's

        with database.session(read_only=True) as session:
            assert RunRepository(session).list() == ()

    def test_a_time_without_zone_is_refused(self, database: Database) -> None:
        run = add_run(database)
        naive = _evaluation(created_at=datetime(2026, 1, 1))

        with pytest.raises(DatabaseError, match="has no zone"), database.session() as session:
            EvaluationRepository(session).upsert_many(run.id, [naive])


def _evaluation(
    *,
    step: int = 100,
    split: str = "meta_val",
    accuracy: float | None = 0.9,
    accuracy_ci95: float | None = 0.01,
    is_best: bool = False,
    created_at: datetime | None = None,
) -> EvaluationRecord:
    return EvaluationRecord(
        step=step,
        split=split,
        label="trained",
        episodes=600,
        loss=0.4,
        loss_ci95=0.02,
        accuracy=accuracy,
        accuracy_ci95=accuracy_ci95,
        batch_norm="transductive",
        is_best=is_best,
        created_at=created_at or datetime.now(UTC),
    )


def _episodes(
    losses: tuple[float, ...], accuracies: tuple[float, ...] | None
) -> EpisodeResultsRecord:
    return EpisodeResultsRecord(
        step=7,
        split="meta_test",
        label="trained",
        episodes=len(losses),
        losses=losses,
        accuracies=accuracies,
    )
