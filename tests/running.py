"""A run in a thread that a test disturbs and compares with the undisturbed bits."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.launch import RunReport
from metafleet.orchestrator.training.events import StepDone
from tests.fleet import wait_until
from tests.runs import Watcher, assert_every_shard_once, config, execute, new_run

STEPS = 10
SHARDS = 4
EXPERIMENT = config(
    outer={"steps": STEPS},
    # long enough a job to be hit in the middle
    learner={"inner_steps": 30},
    validation={"every": 0},
    test={"baselines": False},
)
ONE_SHARD = EXPERIMENT.model_copy(
    update={"outer": EXPERIMENT.outer.model_copy(update={"meta_batch_size": 3})}
)
"""The same with one shard a step, for learners that fail in every job."""


@dataclass(frozen=True)
class Row:
    """One line of the failure matrix as it was seen."""

    broken: str
    happened: str
    recovered_s: float | None
    has_same_bits: bool | None

    def __str__(self) -> str:
        seconds = "      -" if self.recovered_s is None else f"{self.recovered_s:6.1f}s"
        bits = {True: "same bits", False: "OTHER BITS", None: "-"}[self.has_same_bits]
        return f"{self.broken:<52} {self.happened:<46} {seconds}  {bits}"


ROWS: list[Row] = []
"""What the test at work saw, printed at the end of the session."""


class TimedWatcher(Watcher):
    """Remembers when each step was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.committed_s: list[float] = []

    def on_step(self, event: StepDone) -> None:
        super().on_step(event)
        self.committed_s.append(time.monotonic())


class Running:
    """A run in a thread of its own."""

    def __init__(
        self,
        settings: Settings,
        experiment: ExperimentConfig = EXPERIMENT,
        *,
        run: RunRecord | None = None,
    ) -> None:
        self.settings = settings
        self.run = run or new_run(settings, experiment)
        self.watcher = TimedWatcher()
        self._outcome: list[RunReport | BaseException] = []
        self._broken_s: float | None = None
        self._thread = threading.Thread(target=self._execute, daemon=True)
        self._thread.start()

    def _execute(self) -> None:
        try:
            self._outcome.append(execute(self.settings, self.run, watcher=self.watcher))
        except BaseException as error:
            self._outcome.append(error)

    @property
    def has_ended(self) -> bool:
        return bool(self._outcome)

    def wait_for_step(self, step: int, timeout_s: float = 60.0) -> None:
        wait_until(
            lambda: len(self.watcher.steps) >= step or self._outcome, f"step {step}", timeout_s
        )

    def disturb(self, fault: Callable[[], object], *, after_step: int = 2) -> None:
        """Let some steps pass, then break something."""
        self.wait_for_step(after_step)
        assert not self.has_ended, "the run ended before it could be disturbed"
        self._broken_s = time.monotonic()
        fault()

    def recovered_s(self) -> float | None:
        """Seconds from the fault to the second commit after it: the first may have been on its way.

        None when nothing was committed after the fault.
        """
        broken_s = self._broken_s
        if broken_s is None:
            return None
        after = [at for at in self.watcher.committed_s if at > broken_s]
        return after[min(1, len(after) - 1)] - broken_s if after else None

    def result(self, timeout_s: float = 120.0) -> RunReport:
        self._thread.join(timeout_s)
        assert self._outcome, f"the run did not end within {timeout_s:.0f} s"
        if isinstance(self._outcome[0], BaseException):
            raise self._outcome[0]
        return self._outcome[0]

    def assert_undisturbed(
        self, expected: str, broken: str, happened: str, *, steps: int = STEPS
    ) -> None:
        """Hold the run to its bits and its accounts, and write the row."""
        sha256 = self.result().checkpoint_sha256
        ROWS.append(Row(broken, happened, self.recovered_s(), sha256 == expected))
        assert sha256 == expected
        assert_every_shard_once(self.settings, self.run, steps=steps, shards=SHARDS)
