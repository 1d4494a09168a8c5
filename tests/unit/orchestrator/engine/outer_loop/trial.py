"""The outer loop, with a fleet that is made up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metafleet.learners.base import EpisodeMetrics
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.step import StepOutcome, StepRequest, Ticket
from metafleet.orchestrator.training.checkpoint import Checkpoint, CheckpointFolder
from metafleet.orchestrator.training.checkpoint_header import TrainingProgress
from metafleet.orchestrator.training.outer_loop import OuterLoop, Trained
from metafleet.params import flatten_state
from tests.messages import SPEC, make_state, make_sums
from tests.runs import Watcher, config


class MadeUpFleet:
    """Gradients that depend on step and state; validations that score as the test says."""

    fingerprint = "made up"

    def __init__(self, scores: Mapping[int, float] | None = None, *, regression: bool) -> None:
        self.scores = scores or {}
        self.regression = regression
        self.requests: list[StepRequest] = []
        self.fail_at: dict[int, BaseException] = {}
        self.begun: dict[Ticket, StepRequest] = {}
        self.dropped: list[StepRequest] = []
        self.is_quick: Callable[[StepRequest], bool] = lambda request: True

    def begin(self, request: StepRequest) -> Ticket:
        self.requests.append(request)
        ticket = Ticket(len(self.requests))
        self.begun[ticket] = request
        return ticket

    def is_ready(self, ticket: Ticket) -> bool:
        return self.is_quick(self.begun[ticket])

    def drop(self, ticket: Ticket) -> None:
        self.dropped.append(self.begun.pop(ticket))

    def finish(self, ticket: Ticket) -> StepOutcome:
        request = self.begun.pop(ticket)
        if request.kind == "gradient" and request.step in self.fail_at:
            raise self.fail_at[request.step]
        sums = make_sums(request.step)
        for name, tensor in flatten_state(request.state).items():
            sums[name] += tensor
        score = self.scores.get(request.step, 0.0)
        metrics = EpisodeMetrics(-score, None) if self.regression else EpisodeMetrics(1.0, score)
        return StepOutcome(
            sums=sums if request.kind == "gradient" else {},
            metrics=(metrics,) * request.n_episodes,
            jobs=(),
            retries=0,
            workers_alive=2,
        )

    def close(self) -> None:
        pass


class Notebook:
    """A recorder that writes down, in order, what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.status: str | None = None

    def record_step(self, row: Any, jobs: Any) -> None:
        self.lines.append(f"step {row.step}")

    def record_evaluation(self, row: Any, episodes: Any) -> None:
        self.lines.append(f"validation {row.step}{' best' if row.is_best else ''}")

    def record_jobs(self, jobs: Any) -> None:
        pass

    def record_checkpoint(self, row: Any) -> None:
        self.lines.append(f"checkpoint {row.step}")

    def flush(self) -> None:
        self.lines.append("flush")


class Trial:
    """One outer loop over made-up parts."""

    def __init__(
        self,
        folder: Path,
        scores: Mapping[int, float] | None = None,
        *,
        regression: bool = False,
        **sections: dict[str, Any],
    ) -> None:
        self.fleet = MadeUpFleet(scores, regression=regression)
        self.notebook, self.watcher = Notebook(), Watcher()
        self.folder = CheckpointFolder(folder)
        self.config: ExperimentConfig = config(**sections)

    def run(self, start: Checkpoint | None = None) -> Trained:
        loop = OuterLoop(
            self.config,
            SPEC,
            self.fleet,
            self.notebook,  # type: ignore[arg-type]
            folder=self.folder,
            observer=self.watcher,
            learner=None,  # type: ignore[arg-type] - it has no learned step sizes
            batch_norm="none",
        )
        return loop.run(start or Checkpoint(TrainingProgress(0), make_state(), {}, None))

    def newest(self) -> Checkpoint:
        found = self.folder.read_newest()
        assert found is not None
        return found[0]


NO_VALIDATION = {"every": 0, "patience": 0}
