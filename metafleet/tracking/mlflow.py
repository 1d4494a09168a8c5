"""Sends runs to MLflow: a parent run for each experiment, and a child run for each run."""

import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from metafleet.errors import ConfigError
from metafleet.tracking.mark_file import from_document, to_document
from metafleet.tracking.missing import missing
from metafleet.tracking.records import Mark, Row, TrackedRun

METRICS_AT_ONCE: Final = 1_000
"""MLflow accepts at most this number of metrics in a request."""
_PARAMS_AT_ONCE: Final = 100
_LONGEST_TAG: Final = 4_000
"""Characters of a tag. Some stores accept no more than 5,000."""
_LONGEST_PARAM: Final = 6_000
_MARK: Final = "metafleet.mark"
_UID: Final = "metafleet.uid"
_EXPERIMENT: Final = "metafleet.experiment"
_PARENT: Final = "mlflow.parentRunId"
_STATUS: Final = {"finished": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}
"""A run with another status has not ended, or waits for `metafleet runs resume`."""
_OF_PARENT: Final = ("RUNNING", "FAILED", "KILLED", "FINISHED")


class MlflowSink:
    """Writes runs to an MLflow server or database.

    An experiment becomes an MLflow experiment of the same name. In it, there is a parent run, and
    below it one child run for each of the experiment's runs. The sink's mark is a tag of the child
    run.

    Args:
        uri: tracking URI, such as "http://host:5000" or "sqlite:////home/me/mlflow.db"; None for
            the URI that MLflow uses by default.
        run_id: id of an open MLflow run, which is then used instead of a child run. It stays open.

    Raises:
        ConfigError: mlflow-skinny is not installed.
    """

    def __init__(self, uri: str | None = None, *, run_id: str | None = None) -> None:
        is_first = "mlflow" not in sys.modules
        try:
            from mlflow import entities  # noqa: PLC0415 - an optional package
            from mlflow.exceptions import MlflowException  # noqa: PLC0415
            from mlflow.tracking import MlflowClient  # noqa: PLC0415
        except ImportError as error:
            raise missing("MLflow", "mlflow", error) from error
        if is_first:  # the user's program has not chosen what MLflow prints
            _keep_quiet()
        self._entities: Any = entities
        self._exception: Any = MlflowException
        self._make_client: Any = lambda: MlflowClient(tracking_uri=uri)
        self._client: Any = None
        self._is_own = run_id is None
        self._run_id, self._parent = run_id or "", ""
        self._experiment_id = self._uid = ""

    def open(self, run: TrackedRun) -> Mark:
        """Find or create the run. The configuration is stored when the run is created."""
        self._client = self._make_client()  # connects; with a new SQLite file, this takes seconds
        self._uid = run.uid
        if self._is_own:
            self._experiment_id = self._find_experiment(run.experiment)
            self._parent = self._find_parent(run)
            self._run_id = self._find_child(run)
        tags = self._client.get_run(self._run_id).data.tags
        text = "".join(tags.get(name, "") for name in _tag_names(len(tags)))
        if text:
            mark = from_document(
                _parsed(text),
                run.uid,
                where=f"the MLflow run {self._run_id}",
                remedy="delete the MLflow run, and export the run again",
            )
        else:
            mark = Mark()
            self._log_params(run)
            self._log([], mark)
        if self._is_own:
            self._client.update_run(self._run_id, status="RUNNING")
            self._client.update_run(self._parent, status="RUNNING")
        self._client.set_tag(self._run_id, "metafleet.status", "running")
        return mark

    def send(self, rows: Sequence[Row], mark: Mark) -> None:
        """Store metrics, at most a thousand in a request; the last request also has the mark."""
        metrics = [
            self._entities.Metric(name, value, _milliseconds(row.at), row.step)
            for row in rows
            for name, value in row.metrics.items()
        ]
        checkpoints = [row for row in rows if row.table == "checkpoints"]
        if checkpoints:
            last = max(checkpoints, key=lambda row: row.step).values
            text = f"{last['sha256']} {last['path']}"
            self._client.set_tag(self._run_id, "metafleet.checkpoint", text[:_LONGEST_TAG])
        self._log(metrics, mark)

    def end(self, run: TrackedRun) -> None:
        """Store the status. MLflow shows a run that waits for its resumption as running."""
        text = run.status_text[:_LONGEST_TAG]
        self._client.set_tag(self._run_id, "metafleet.status", text)
        if not self._is_own or run.status not in _STATUS:
            return
        ended = _milliseconds(run.ended_at or datetime.now(UTC))
        self._client.set_terminated(self._run_id, _STATUS[run.status], end_time=ended)
        self._end_parent(ended)

    def close(self) -> None:
        """Do nothing: a client holds no connection."""

    def _find_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except self._exception:  # created by another process meanwhile
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise ConfigError(
                f"MLflow experiment {name!r:.80} is deleted; restore it, or delete it for good "
                "(`mlflow gc`)"
            )
        return str(found.experiment_id)

    def _find(self, condition: str) -> list[Any]:
        found: list[Any] = self._client.search_runs([self._experiment_id], condition)
        return sorted(found, key=lambda one: (one.info.start_time, one.info.run_id))

    def _find_parent(self, run: TrackedRun) -> str:
        wanted = f"tags.`{_EXPERIMENT}` = '{_quoted(run.experiment)}'"
        if not self._find(wanted):
            self._client.create_run(
                self._experiment_id,
                start_time=_milliseconds(run.started_at),
                run_name=run.experiment,
                tags={_EXPERIMENT: run.experiment},
            )
        # if two processes have created a parent at the same time, both use the first one
        return str(self._find(wanted)[0].info.run_id)

    def _find_child(self, run: TrackedRun) -> str:
        found = self._find(f"tags.`{_UID}` = '{_quoted(run.uid)}'")
        if found:
            return str(found[0].info.run_id)
        tags = {_UID: run.uid, _PARENT: self._parent, "metafleet.seed": str(run.seed)}
        made = self._client.create_run(
            self._experiment_id,
            start_time=_milliseconds(run.started_at),
            run_name=f"{run.name} seed {run.seed}",
            tags=tags,
        )
        return str(made.info.run_id)

    def _end_parent(self, ended: int) -> None:
        """Give the parent the status of its children: running if one of them is running, ..."""
        children = self._find(f"tags.`{_PARENT}` = '{self._parent}'")
        statuses = {one.info.status for one in children}
        status = next((one for one in _OF_PARENT if one in statuses), "FINISHED")
        if status != "RUNNING":
            self._client.set_terminated(self._parent, status, end_time=ended)

    def _log_params(self, run: TrackedRun) -> None:
        params = [
            self._entities.Param(re.sub(r"[^\w./: -]", "_", key), _shown(value))
            for key, value in run.params.items()
        ]
        for first in range(0, len(params), _PARAMS_AT_ONCE):
            some = params[first : first + _PARAMS_AT_ONCE]
            self._client.log_batch(self._run_id, params=some)

    def _log(self, metrics: Sequence[Any], mark: Mark) -> None:
        text = json.dumps(to_document(self._uid, mark), separators=(",", ":"))
        parts = [text[at : at + _LONGEST_TAG] for at in range(0, len(text), _LONGEST_TAG)]
        tags = [
            self._entities.RunTag(name, part)
            for name, part in zip(_tag_names(len(parts)), parts, strict=True)
        ]
        in_requests = METRICS_AT_ONCE - len(tags)
        for first in range(0, max(len(metrics), 1), in_requests):
            some = metrics[first : first + in_requests]
            is_last = first + in_requests >= len(metrics)
            self._client.log_batch(self._run_id, metrics=some, tags=tags if is_last else ())


def _tag_names(n_parts: int) -> Iterator[str]:
    return (f"{_MARK}.{index}" if index else _MARK for index in range(n_parts))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:_LONGEST_PARAM]


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _keep_quiet() -> None:
    """Let MLflow print warnings only; it would list each migration of a new database."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
