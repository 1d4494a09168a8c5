"""Draws episodes in another process, and keeps what was drawn. Imports no learning core."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from metafleet.contracts.settings import Settings, orchestrator_environment
from metafleet.db.records import EpisodeResultsRecord, RunRecord
from metafleet.errors import DrawingError
from metafleet.orchestrator.redraw.confusion import NOTHING, Confusion

_MODULE: Final = "metafleet.orchestrator.redraw.process"
_MOST_KEPT: Final = 48
"""Number of drawn episodes in memory; one has about 100 kB."""
_AT_ONCE: Final = 5
_POLITE_S: Final = 0.05
_END_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class EvaluationKey:
    """Names an evaluation for the process."""

    run: str
    split: str
    label: str
    step: int
    episodes: int

    @classmethod
    def of(cls, run: RunRecord, record: EpisodeResultsRecord) -> "EvaluationKey":
        """Return the key of an evaluation of a run."""
        return cls(run.uid, record.split, record.label, record.step, record.episodes)


@dataclass(slots=True)
class Counting:
    """The counts of predictions so far.

    Attributes:
        total: number of episodes of the evaluation.
        confusion: the predictions over the episodes so far.
        problem: why there are no counts; "" if there are some.
    """

    total: int
    confusion: Confusion = NOTHING
    problem: str = ""

    @property
    def done(self) -> int:
        """The number of episodes so far."""
        return self.confusion.episodes

    @property
    def is_done(self) -> bool:
        """Return whether nothing more will be counted."""
        return self.done >= self.total or bool(self.problem)


class Drawer:
    """Draws episodes in one other process, which starts at the first request.

    Thread-safe. ``close`` ends the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.process: subprocess.Popen[str] | None = None
        """The other process; None before it is started."""
        self._busy = threading.Lock()
        self._kept: OrderedDict[tuple[EvaluationKey, int], dict[str, Any]] = OrderedDict()
        self._countings: OrderedDict[EvaluationKey, Counting] = OrderedDict()
        self._waiting = 0
        self._guard = threading.Lock()
        self._is_closed = False

    def draw(self, key: EvaluationKey, index: int) -> dict[str, Any]:
        """Return an episode as JSON values; see ``DrawnEpisode.to_json``. This may take seconds.

        Raises:
            DrawingError: the data or the state are not on this machine, or the process failed.
        """
        with self._guard:
            if (found := self._kept.get((key, index))) is not None:
                self._kept.move_to_end((key, index))
                return found
            self._waiting += 1
        try:
            drawn: dict[str, Any] = self._ask({**asdict(key), "index": index})["drawn"]
        finally:
            with self._guard:
                self._waiting -= 1
        with self._guard:
            self._kept[key, index] = drawn
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return drawn

    def count(self, key: EvaluationKey) -> Counting:
        """Return the counts so far; the first call begins to count, in a thread."""
        with self._guard:
            found = self._countings.get(key)
            if found is None or found.problem:
                found = self._countings[key] = Counting(key.episodes)
                threading.Thread(target=self._count, args=(key, found), daemon=True).start()
            return found

    def close(self) -> None:
        """End the process."""
        self._is_closed = True
        process = self.process
        if process is None:
            return
        process.kill()  # a thread that waits for an answer then reads the end of the output
        with self._busy:
            _bury(process)

    def _count(self, key: EvaluationKey, found: Counting) -> None:
        while not found.is_done and not self._is_closed:
            while self._waiting:  # somebody looks at an episode: first theirs
                time.sleep(_POLITE_S)
            try:
                answer = self._ask({**asdict(key), "first": found.done, "n": _AT_ONCE})["counts"]
            except DrawingError as error:
                found.problem = str(error)
                return
            if answer is None:
                found.problem = "classes are confused only where each item has one class"
                return
            found.confusion = found.confusion.plus(Confusion.from_json(answer))

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._busy:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError as error:
                raise self._died(process) from error
            if not line:
                raise self._died(process)
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise DrawingError(answer["problem"])
        return answer

    def _started(self) -> "subprocess.Popen[str]":
        if self._is_closed:
            raise DrawingError("the dashboard is about to end")
        if self.process is not None and self.process.poll() is not None:
            _bury(self.process)
            self.process = None
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=orchestrator_environment(self._settings),
                text=True,
                start_new_session=True,  # Ctrl-C is for the server, which then ends this one
            )
        return self.process

    def _died(self, process: "subprocess.Popen[str]") -> DrawingError:
        status = _bury(process)
        self.process = None
        return DrawingError(
            f"the process that draws episodes ended with status {status}; try again"
        )


def _bury(process: "subprocess.Popen[str]") -> int:
    """End a process, close its pipes and return its status."""
    process.kill()
    status = process.wait(_END_S)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    return status
