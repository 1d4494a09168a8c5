"""Events of a run for its observers: progress bars, logs, JSON streams, tests."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has begun, or has resumed from a checkpoint.

    Attributes:
        run_id: the run's id in the database.
        name: the run's name.
        first_step: number of outer steps already done; 0 for a new run.
        n_steps: total number of outer steps.
    """

    run_id: int
    name: str
    first_step: int
    n_steps: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """One outer step was committed.

    Attributes:
        step: number of the outer step, from 1.
        loss: mean query loss over the meta-batch.
        accuracy: mean query accuracy in [0, 1]; None for regression.
        grad_norm: Euclidean norm of the mean meta-gradient before clipping.
        lr: outer learning rate of this step.
        episodes: episodes in the meta-batch.
        step_s: wall-clock seconds of the step.
        workers_alive: number of workers that sent a heartbeat within the last few seconds.
        retries: number of attempts beyond the first attempt of each shard, added up over all
            shards.
        missing_shards: indices of the shards that are missing from the step. Always empty with the
            policy "strict".
        missing_episodes: number of episodes in ``missing_shards``.
        metric: what ``accuracy`` is: "accuracy", or "mean average precision" over labels.
    """

    step: int
    loss: float
    accuracy: float | None
    grad_norm: float
    lr: float
    episodes: int
    step_s: float
    workers_alive: int
    retries: int
    missing_shards: tuple[int, ...] = ()
    missing_episodes: int = 0
    metric: str = "accuracy"


@dataclass(frozen=True, slots=True)
class EvaluationDone:
    """A state was evaluated on episodes of one split.

    Attributes:
        split: meta_train, meta_val or meta_test.
        label: the evaluated state: "trained", "initialisation" or "nearest_prototype".
        step: number of outer steps after which the run had the evaluated state.
        episodes: number of episodes, n.
        loss, loss_ci95: mean loss over the episodes, and half the width of its 95 % interval: 1.96
            * std / sqrt(n).
        accuracy, accuracy_ci95: the same for accuracy in [0, 1]; None for regression.
        batch_norm: batch-norm mode of the model; "none" without batch norm.
        is_best: whether this is the best validation so far.
        metric: what ``accuracy`` is: "accuracy", or "mean average precision" over labels.
    """

    split: str
    label: str
    step: int
    episodes: int
    loss: float
    loss_ci95: float
    accuracy: float | None
    accuracy_ci95: float | None
    batch_norm: str
    is_best: bool = False
    metric: str = "accuracy"


class Observer(Protocol):
    """Observes a run. Called from the orchestrator's thread; must not block."""

    def on_start(self, event: RunStarted) -> None:
        """Handle the start or resumption of the run."""
        ...

    def on_step(self, event: StepDone) -> None:
        """Handle a committed outer step."""
        ...

    def on_evaluation(self, event: EvaluationDone) -> None:
        """Handle a validation or a test."""
        ...

    def on_notice(self, text: str) -> None:
        """Handle a message for users, e.g. that the run waits for workers."""
        ...
