"""What a sink receives: a run, and its rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from metafleet.tracking.flat import flat

TableName = Literal["steps", "evaluations", "checkpoints"]
_OF_STEPS: Final = {
    "loss": "loss",
    "accuracy": "score",
    "grad_norm": "grad_norm",
    "lr": "lr",
    "step_s": "step_s",
    "workers_alive": "workers",
}
_TRAINED: Final = "trained"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """A run and its state.

    Attributes:
        uid: a short text that identifies the run.
        name: the run's name, which several runs may share.
        experiment: the experiment that the run belongs to.
        seed: the seed.
        config: the configuration, as nested tables.
        status: created, queued, running, finished, failed, interrupted or cancelled.
        steps_done: number of outer steps done.
        error: why the run failed or was interrupted; None otherwise.
        started_at, ended_at: times of the start and the end. ``ended_at`` is None before the end.
    """

    uid: str
    name: str
    experiment: str
    seed: int
    config: Mapping[str, Any]
    status: str
    steps_done: int = 0
    error: str | None = None
    started_at: datetime
    ended_at: datetime | None = None

    @property
    def label(self) -> str:
        """A name that no other run has."""
        return f"{self.name}-{self.uid}"

    @property
    def params(self) -> dict[str, Any]:
        """Dotted key -> value of the configuration."""
        return flat(self.config)

    @property
    def status_text(self) -> str:
        """The status, followed by the error if there is one."""
        return self.status + (f": {self.error}" if self.error else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An outer step, an evaluation or a checkpoint of a run.

    Attributes:
        table: the kind of row.
        step: the outer step to which the row belongs.
        values: column -> value, as in the files of `metafleet runs export`.
        at: the time of the row. For an outer step, it is the start of the run plus the time that
            the steps so far took.
    """

    table: TableName
    step: int
    values: Mapping[str, Any]
    at: datetime

    @property
    def key(self) -> str:
        """A text that identifies the row among the evaluations and checkpoints of a run."""
        if self.table == "checkpoints":
            return f"{self.step}/checkpoint"
        one = self.values
        return f"{self.step}/{one['split']}/{one['label']}/{one['episodes']}"

    @property
    def metrics(self) -> dict[str, float]:
        """Name of a series -> value, such as "meta_val/loss"; without values that are None."""
        one = self.values
        if self.table == "steps":
            named = {f"meta_train/{name}": one.get(key) for key, name in _OF_STEPS.items()}
        elif self.table == "evaluations":
            label = "" if one["label"] == _TRAINED else f"/{one['label']}"
            above = f"{one['split']}{label}"
            named = {f"{above}/loss": one["loss"], f"{above}/score": one["accuracy"]}
        else:
            named = {"checkpoint/size_bytes": one["size_bytes"]}
        return {name: float(value) for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Mark:
    """Says which rows of a run a sink already has.

    Attributes:
        step: the last outer step that the sink has; 0 for none.
        keys: keys of the evaluations and checkpoints that the sink has; see ``Row.key``.
    """

    step: int = 0
    keys: frozenset[str] = field(default=frozenset())

    def has(self, row: Row) -> bool:
        """Return whether the sink already has a row."""
        return row.step <= self.step if row.table == "steps" else row.key in self.keys

    def plus(self, rows: Iterable[Row]) -> "Mark":
        """Return the mark of a sink that has received these rows as well."""
        step, keys = self.step, set(self.keys)
        for row in rows:
            if row.table == "steps":
                step = max(step, row.step)
            else:
                keys.add(row.key)
        return Mark(step, frozenset(keys))
