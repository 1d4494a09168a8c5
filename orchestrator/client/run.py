"""A run, from Python."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import (
    AttemptRecord,
    EvaluationRecord,
    JobRecord,
    OuterStepRecord,
    RunRecord,
)
from metafleet.db.repositories.attempts import AttemptRepository
from metafleet.db.repositories.episode_results import EpisodeResultsRepository
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.inner_curves import InnerCurveRepository
from metafleet.db.repositories.inner_rates import InnerRatesRepository
from metafleet.db.repositories.jobs import JobRepository
from metafleet.db.repositories.outer_steps import OuterStepRepository
from metafleet.db.repositories.run_notes import RunNotes
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError, MetafleetError
from metafleet.files import drafting
from metafleet.orchestrator.client.table import Table
from metafleet.orchestrator.records.inner_rows import INNER_COLUMNS, inner_rows
from metafleet.orchestrator.records.job_times import JobTimes
from metafleet.orchestrator.records.modality_rows import MODALITY_COLUMNS, modality_rows
from metafleet.orchestrator.records.selecting import check_keys, with_results
from metafleet.orchestrator.tracking.source import RunSource
from metafleet.splits import META_TEST, SPLITS
from metafleet.tracking.follower import Follower
from metafleet.tracking.live import one_line
from metafleet.tracking.targets import open_sink, shown_target

if TYPE_CHECKING:
    from metafleet.inference.learned_model import LearnedModel

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.5
_RATE: Final = ("step", "layer", "inner_step", "rate")
_LABELS: Final = ("trained", "initialisation", "nearest_prototype")
_EPISODE: Final = ("split", "label", "step", "episode", "loss", "accuracy")


class Run:
    """A run in the database. ``Client.runs`` and ``Client.submit`` return objects of this class.

    The attributes have the values that the last ``refresh`` or ``wait`` read. Each call of a method
    that returns a table reads the table from the database.

    Args:
        database: an open database.
        settings: locations of the checkpoints and the data.
        record: the run as read from the database.
    """

    def __init__(self, database: Database, settings: Settings, record: RunRecord) -> None:
        self._database, self._settings, self._record = database, settings, record

    @property
    def id(self) -> int:
        """The run's id in this database."""
        return self._record.id

    @property
    def uid(self) -> str:
        """The run's id in any database."""
        return self._record.uid

    @property
    def name(self) -> str:
        """The run's name, which several runs may share."""
        return self._record.name

    @property
    def seed(self) -> int:
        """The seed."""
        return self._record.seed

    @property
    def row_name(self) -> str:
        """The name of the file that ``write_row`` writes."""
        return f"{self.name}-{self.seed}.json"

    @property
    def status(self) -> str:
        """One of created, queued, running, finished, failed, interrupted and cancelled."""
        return self._record.status.value

    @property
    def error(self) -> str | None:
        """Why the run failed or was interrupted."""
        return self._record.error

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration, with all defaults."""
        return self._record.config

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.name}, seed {self.seed}: {self.status}>"

    def refresh(self) -> "Run":
        """Read the run again, and return it."""
        with self._database.session(read_only=True) as session:
            self._record = RunRepository(session).get(self.uid)
        return self

    def wait(self, timeout_s: float | None = None) -> "Run":
        """Wait until the run has ended, whether it succeeded or not, and return the run.

        Raises:
            TimeoutError: the run has not ended after ``timeout_s`` seconds.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.refresh()._record.status.is_final:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(
                    f"run {self.id} is {self.status} after {timeout_s:g} s; expected its end; "
                    "queued runs need a server (`metafleet serve`)"
                )
            time.sleep(_LOOK_EVERY_S)
        return self

    def value(self, key: str) -> Any:
        """Return the value of a key of `metafleet runs list`, such as "best" or "outer.lr".

        Return None if the run has no value for the key.

        Raises:
            ConfigError: the key exists in no run.
        """
        return self.values((key,))[key]

    def values(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of several keys, like ``value``."""
        keys = tuple(keys)
        with self._database.session(read_only=True) as session:
            repository = RunRepository(session)
            run = repository.get(self.uid)
            check_keys(keys, [run], repository)
            (entry,) = with_results(session, [run])
        return {key: entry.value(key) for key in keys}

    def curve(self) -> Table:
        """Return the outer steps: loss, accuracy, gradient norm, learning rate, seconds ..."""
        with self._database.session(read_only=True) as session:
            rows = OuterStepRepository(session).list(self._id_in(session))
        return Table([f.name for f in fields(OuterStepRecord)], [asdict(row) for row in rows])

    def evaluations(self) -> Table:
        """Return the validations and tests, with 95 % intervals over episodes."""
        with self._database.session(read_only=True) as session:
            rows = EvaluationRepository(session).list(self._id_in(session))
        return Table([f.name for f in fields(EvaluationRecord)], [asdict(row) for row in rows])

    def episodes(self, split: str | None = META_TEST, label: str | None = None) -> Table:
        """Return the loss and accuracy of each episode of the evaluations on a split.

        Args:
            split: the split; None for all splits.
            label: the evaluated state: "trained", "initialisation" or "nearest_prototype"; None for
                all states.

        Raises:
            ConfigError: there is no such split, or no evaluation of the run has the label.
        """
        _check_split(split)
        with self._database.session(read_only=True) as session:
            found = EpisodeResultsRepository(session).list(
                self._id_in(session), split=split, label=label
            )
            if label is not None and not found:
                evaluations = EvaluationRepository(session).list(self._id_in(session))
                _check_name("label", label, {*_LABELS, *(one.label for one in evaluations)})
        rows = [
            {"split": one.split, "label": one.label, "step": one.step, "episode": index}
            | {"loss": loss, "accuracy": one.accuracies[index] if one.accuracies else None}
            for one in found
            for index, loss in enumerate(one.losses)
        ]
        return Table(_EPISODE, rows)

    def modalities(self, split: str | None = META_TEST) -> Table:
        """Return the results with only some modalities, from `metafleet evaluate --modalities`.

        ``shown`` and ``missing`` are the modalities that all examples of the evaluation show or
        lack, joined by "+". In the rows of an evaluation with all modalities, ``missing`` is "".

        Args:
            split: the split; None for all splits.

        Raises:
            ConfigError: there is no such split.
        """
        _check_split(split)
        with self._database.session(read_only=True) as session:
            rows = EvaluationRepository(session).list(self._id_in(session), split=split)
        return Table(MODALITY_COLUMNS, modality_rows(rows))

    def inner_curve(self, split: str | None = META_TEST) -> Table:
        """Return mean results before the first and after each inner step of the adaptation.

        A test records them for learners with inner steps, on a tenth of its episodes;
        `metafleet evaluate --inner-steps` records them for other splits and numbers of episodes.

        Args:
            split: the split; None for all splits.

        Raises:
            ConfigError: there is no such split.
        """
        _check_split(split)
        with self._database.session(read_only=True) as session:
            curves = InnerCurveRepository(session).list(self._id_in(session), split=split)
        return Table(INNER_COLUMNS, [row for curve in curves for row in inner_rows(curve)])

    def inner_rates(self) -> Table:
        """Return the step sizes that the run has learned for its inner steps.

        The rate is the mean over the elements of a parameter ``layer``, after outer step ``step``.
        Rates are recorded at the run's start, at validations and at checkpoints. The table is empty
        for learners whose step sizes are fixed.
        """
        with self._database.session(read_only=True) as session:
            found = InnerRatesRepository(session).list(self._id_in(session))
        rows = [
            {"step": one.step, "layer": layer, "inner_step": index, "rate": rate}
            for one in found
            for layer, rates in one.by_layer().items()
            for index, rate in enumerate(rates)
        ]
        return Table(_RATE, rows)

    def jobs(self, stream: str | None = None, step: int | None = None) -> Table:
        """Return the jobs whose results counted, with their times in UTC.

        ``sent_at`` is the time at which the attempt was sent, ``started_at`` and ``ended_at`` are
        the times at which the worker started and ended it, and ``counted_at`` is the time at which
        the orchestrator had added its result to the step. All of them are by the clock of the Redis
        server, so wrong clocks of workers have no effect.

        Args:
            stream: the stream of steps, such as "train"; None for all streams.
            step: number of the step in its stream; None for all steps.

        Raises:
            ConfigError: the run has jobs, but none of this stream.
        """
        with self._database.session(read_only=True) as session:
            jobs, run_id = JobRepository(session), self._id_in(session)
            rows = jobs.list(run_id, stream=stream, step=step)
            if stream is not None and not rows:
                known = {row.stream for row in jobs.list(run_id)}
                _check_name("stream", stream, known or {stream})
        return _timed(JobRecord, rows)

    def attempts(self) -> Table:
        """Return attempts whose results did not count, with their times as in ``jobs``.

        The database keeps at most 100 of them for a step, and 10,000 for an execution of the run.
        """
        with self._database.session(read_only=True) as session:
            rows = AttemptRepository(session).list(self._id_in(session))
        return _timed(AttemptRecord, rows)

    def learned(self) -> "LearnedModel":
        """Return the model that the run has learned. Its method ``adapt`` adapts it to new classes.

        Raises:
            CheckpointError: the run has no checkpoint on this host.
        """
        # imported here: reading records needs no learning core
        from metafleet.orchestrator.runs.learned_run import learned_by  # noqa: PLC0415

        with self._database.session(read_only=True) as session:
            evaluations = EvaluationRepository(session).list(self._id_in(session))
        return learned_by(self._settings, self._record, evaluations, log.warning)

    def send_to(self, target: Any) -> None:
        """Send the run's records to a target, which then lacks none of them.

        Args:
            target: a text as in METAFLEET_TRACK, such as "mlflow:URI", or an open run: a
                SummaryWriter of TensorBoard, the id or an object of an MLflow run, or a run of W&B
                or Trackio.

        Raises:
            ConfigError: there is no such target, the target's library is not installed, or the
                records cannot be written.
        """
        follower = Follower(RunSource(self._database, self.uid), open_sink(target))
        try:
            follower.end()
        except MetafleetError:
            raise
        except Exception as error:  # whatever a library raises
            text = one_line(error)
            if isinstance(error, OSError) and error.strerror:
                text = error.strerror
            raise ConfigError(f"{shown_target(target)} cannot be written ({text})") from error

    def write_row(self, folder: str | Path) -> Path:
        """Write the file from which `metafleet reproduce` repeats this run; return the file's path.

        Raises:
            ConfigError: the run is not finished, the run has no test, or the file cannot be
                written.
        """
        # imported here: reading records needs no learning core
        from metafleet.orchestrator.ledger.row import LedgerRow  # noqa: PLC0415

        self.refresh()
        with self._database.session(read_only=True) as session:
            evaluations = EvaluationRepository(session).list(self._id_in(session))
        row = LedgerRow.of(self._record, evaluations)
        path = Path(folder) / self.row_name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with drafting(path, mode=0o644, survives=False) as draft:
                draft.write_text(row.to_text(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror or error})") from error
        return path

    def write_trace(self, folder: str | Path) -> Path:
        """Write when each worker computed which shard, for Perfetto; return the file's path.

        The file has the Trace Event Format.

        Raises:
            ConfigError: the times of no job are known, or the file cannot be written.
        """
        from metafleet.orchestrator.records.timeline import read_timeline  # noqa: PLC0415 - numpy
        from metafleet.orchestrator.records.trace_events import trace_parts  # noqa: PLC0415

        with self._database.session(read_only=True) as session:
            timeline = read_timeline(session, self._id_in(session))
        if not len(timeline.spans):
            raise ConfigError(
                f"run {self.id} has no job with known times; expected a run that workers, or this "
                "version in one process, computed"
            )
        path = Path(folder) / f"run-{self.id}.trace.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with drafting(path, mode=0o644, survives=False) as draft, draft.open("w") as file:
                file.writelines(trace_parts(timeline, f"{self.name} #{self.id}"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror or error})") from error
        return path

    def tag(self, *tags: str) -> None:
        """Add tags, by which filters such as "tags=paper" find the run."""
        if not tags:
            raise ConfigError("no tag given; expected one or more")
        with self._database.session() as session:
            RunNotes(session).add_tags(self._id_in(session), tags)

    def note(self, text: str) -> None:
        """Replace the run's note."""
        with self._database.session() as session:
            RunNotes(session).set_note(self._id_in(session), text)

    def _id_in(self, session: Connection) -> int:
        """Return the run's current id, found by the run's uid.

        Raises:
            RunNotFoundError: the run was deleted. Its old id cannot show that, because SQLite may
                give the id of a deleted run to a new run.
        """
        return RunRepository(session).get(self.uid).id


def _check_split(split: str | None) -> None:
    if split is not None:
        _check_name("split", split, SPLITS)


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ConfigError(f"{what}={name!r:.80}; expected one of {', '.join(sorted(known))}")


def _timed(record: type[Any], rows: Iterable[Any]) -> Table:
    names = [f.name for f in fields(record)] + [f.name for f in fields(JobTimes)]
    return Table(names, [asdict(row) | asdict(JobTimes.of(row)) for row in rows])
