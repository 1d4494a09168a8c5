"""Sends the outer steps, evaluations and files of a ``MetaLearner`` to trackers."""

import hashlib
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Final
from weakref import WeakSet

from metafleet.errors import ConfigError
from metafleet.learners.summary import Summary
from metafleet.script.outer_step import OuterStep
from metafleet.tracking.live import one_line, tracked
from metafleet.tracking.records import Mark, Row, TrackedRun

log = logging.getLogger(__name__)

_ROWS_AT_ONCE: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Feed:
    """The rows that one sink has not received yet; a ``metafleet.tracking.sink.Source``."""

    def __init__(self, journal: "Journal") -> None:
        self._journal = journal
        self.waiting: deque[Row] = deque()
        self._guard = Lock()

    def run(self) -> TrackedRun:
        """Return the run as it is now."""
        return self._journal.run

    def rows(self, mark: Mark) -> Sequence[Row]:
        """Forget the rows that ``mark`` has, and return the next ones."""
        while self.waiting and mark.has(self.waiting[0]):
            self.waiting.popleft()
        with self._guard:  # iterating fails when a row is added
            rows = list(islice(self.waiting, _ROWS_AT_ONCE))
        return [row for row in rows if not mark.has(row)]

    def add(self, row: Row) -> None:
        """Add a row, from any thread."""
        with self._guard:
            self.waiting.append(row)


class Journal:
    """What happens to a ``MetaLearner`` in a run: one thread writes, each sink's thread reads.

    Args:
        run: the run at its start.

    Attributes:
        run: the run as it is now.
    """

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        self._feeds: WeakSet[Feed] = WeakSet()  # a sink that failed drops its feed
        self._last_s = time.monotonic()

    def feed(self) -> Feed:
        """Return a new source of the rows from now on."""
        made = Feed(self)
        self._feeds.add(made)
        return made

    def add_step(self, outer: OuterStep, lr: float) -> None:
        """Add an outer step. Its time is the time since the previous one."""
        now_s = time.monotonic()
        values = {"loss": outer.loss, "accuracy": outer.accuracy, "grad_norm": outer.grad_norm}
        values |= {"lr": lr, "episodes": len(outer.episodes), "step_s": now_s - self._last_s}
        self._last_s = now_s
        self.run = replace(self.run, steps_done=outer.step)
        self._add("steps", outer.step, values)

    def add_evaluation(self, step: int, split: str, found: Summary) -> None:
        """Add an evaluation of the state after ``step``."""
        values = asdict(found)
        values |= {"split": split, "label": "trained", "episodes": values.pop("n_episodes")}
        self._add("evaluations", step, values)

    def add_file(self, step: int, path: Path) -> None:
        """Add a saved file."""
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        values = {"path": str(path.absolute()), "sha256": digest, "size_bytes": len(content)}
        self._add("checkpoints", step, values)

    def end(self, status: str, error: str | None = None) -> None:
        """Set the status that the sinks show."""
        self.run = replace(self.run, status=status, error=error, ended_at=datetime.now(UTC))

    def _add(self, table: Any, step: int, values: Mapping[str, Any]) -> None:
        row = Row(table=table, step=step, values={"step": step, **values}, at=datetime.now(UTC))
        for feed in self._feeds:
            feed.add(row)


@contextmanager
def journal_of(
    targets: Sequence[Any], *, name: str, uid: str | None, seed: int, config: Mapping[str, Any]
) -> Iterator[Journal]:
    """Send what is added to the journal during the block; see ``MetaLearner.tracked``."""
    uid = secrets.token_hex(4) if uid is None else uid
    for what, value in (("name", name), ("uid", uid)):
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise ConfigError(
                f"{what}={value!r:.80}; expected letters, digits, '.', '_' and '-', at most 64"
            )
    if not targets:
        raise ConfigError("no target given; expected one or more, such as 'tensorboard:logs'")
    journal = Journal(
        TrackedRun(
            uid=uid,
            name=name,
            experiment=name,
            seed=seed,
            config=config,
            status="running",
            started_at=datetime.now(UTC),
        )
    )
    with tracked(journal.feed, targets, log.warning, advice=lambda _: "the training goes on"):
        try:
            yield journal
        except Exception as error:
            journal.end("failed", one_line(error))
            raise
        except BaseException as error:
            journal.end("interrupted", type(error).__name__)
            raise
        journal.end("finished")
