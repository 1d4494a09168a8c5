"""Meta-learning from the losses of a training loop: batch after batch, task after task."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from metafleet.errors import ConfigError, NumericsError
from metafleet.interrupts import uninterrupted
from metafleet.learners.base import EpisodeMetrics
from metafleet.learners.gradient_steps import GradientSteps, StepOptions
from metafleet.learners.inner_optimiser import without_moments
from metafleet.models.module_model import PREFIX
from metafleet.params import Params
from metafleet.script.batch_step import BatchStep
from metafleet.script.bound import Bound
from metafleet.script.learning import Learning
from metafleet.script.loss_gradient import loss_gradient
from metafleet.script.outer_step import OuterStep

Steps = GradientSteps[StepOptions]


@dataclass(frozen=True, slots=True)
class _Task:
    """A task under way; tensors without a graph, so that it can be copied.

    Attributes:
        first: what is learned, as it was when the task began.
        fast: adapted parameters, and the optimiser's moments.
        grads: of each batch so far, for the module's parameters.
        losses: of each batch so far.
    """

    first: Params
    fast: Params
    grads: list[Params] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class TrainingLoop:
    """Takes losses; while a task is under way, the module holds its adapted parameters.

    Args:
        learning: what is learned.
        tasks_per_step: tasks whose meta-gradients make an outer step.
    """

    def __init__(self, learning: Learning, *, tasks_per_step: int) -> None:
        self._learning = learning
        self._tasks_per_step = tasks_per_step
        self._task: _Task | None = None
        self._sums: Params = {}
        self._query_losses: list[float] = []

    @property
    def waiting(self) -> str:
        """Whole tasks, and batches of the one under way, since the last outer step; "" if none."""
        n_batches = 0 if self._task is None else len(self._task.losses)
        n_tasks = len(self._query_losses)
        if not n_batches and not n_tasks:
            return ""
        tasks = "1 task" if n_tasks == 1 else f"{n_tasks} tasks"
        return f"{tasks} and " + ("1 batch" if n_batches == 1 else f"{n_batches} batches")

    def take(self, loss: Tensor) -> BatchStep:
        """Make an inner step along the gradient of ``loss``, or end the task with it as its query.

        Raises:
            ConfigError: it is no scalar that depends on the module's parameters, or means nothing
                to the learner, or the module is not such as was bound; nothing is changed.
            NumericsError: it is not finite, or its gradient is not; the task is dropped.
        """
        bound = self._learning.bind_to_losses()
        learner = _steps_of(bound)
        bound.require_optimiser()
        bound.state.require_unchanged()
        self._require_alone()
        grads = loss_gradient(loss, _of_module(bound))
        task = self._task or self._begun(bound, learner)
        value = loss.item()
        self._require_finite(value, grads, n_before=len(task.losses))
        self._learning.decide()
        task = replace(task, grads=[*task.grads, grads], losses=[*task.losses, value])
        n_batches = len(task.losses)
        if n_batches > learner.n_steps(is_training=True):
            return BatchStep(value, n_batches, True, self._end(task))
        self._advance(bound, learner, task)
        return BatchStep(value, n_batches, False, None)

    def next_task(self, *, finish: bool) -> OuterStep | None:
        """End the task under way: its last batch is its query; return the outer step, if any.

        Args:
            finish: take the step with the tasks that ended, where they are too few for one.

        Raises:
            NumericsError: the meta-gradient is not finite; the task is dropped.
        """
        outer = None if self._task is None else self._end(self._task)
        return self._stepped() if finish and self._query_losses else outer

    def drop_task(self) -> None:
        """Forget the task under way; the module is at its initialisation."""
        with uninterrupted():
            if self._task is not None:
                _write(self._learning.require_bound(), self._task.first)
            self._task = None

    def forget(self) -> None:
        """Forget all tasks since the last outer step, and leave the module as it is."""
        self._task, self._sums, self._query_losses = None, {}, []

    def require_none(self) -> None:
        """Refuse to mix a loop's tasks with episodes.

        Raises:
            ConfigError: batches are under way, here or in another loop over the module.
        """
        self._require_alone()
        if self.waiting:
            raise ConfigError(
                f"a training loop has {self.waiting} that no outer step was taken with; "
                "take it (next_task(finish=True)), or drop them (drop_task(finished=True)), before "
                "episodes"
            )

    def _require_alone(self) -> None:
        """Refuse a module that holds the adapted parameters of another loop's task.

        Raises:
            ConfigError: it does.
        """
        latest = _LATEST.get(self._learning.module, lambda: None)()
        if latest not in (None, self) and latest._task is not None:
            raise ConfigError(
                "another MetaLearner of this module is within a task, whose parameters the module "
                "holds; end that task there first: next_task(finish=True), or drop_task()"
            )

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Let the module hold its initialisation for a while."""
        if self._task is None:
            yield
            return
        bound = self._learning.require_bound()
        try:
            _write(bound, self._task.first)
            yield
        finally:
            _write(bound, self._task.fast)

    def _begun(self, bound: Bound, learner: Steps) -> _Task:
        _LATEST[self._learning.module] = ref(self)
        first = bound.state.copy().params
        return _Task(first, learner.adapting(first))

    def _advance(self, bound: Bound, learner: Steps, task: _Task) -> None:
        index = len(task.grads) - 1
        with uninterrupted(), torch.no_grad():
            fast = learner.moved(task.first, task.fast, _along(task, index), index)
            self._task = replace(task, fast=fast)
            _write(bound, fast)

    def _end(self, task: _Task) -> OuterStep | None:
        """Give the module its initialisation back, and step along the meta-gradient if it is time.

        The last batch is the query. Where it is the only one, MAML's gradient is that of plain
        training, and Reptile follows that batch.
        """
        bound = self._learning.require_bound()
        learner = _steps_of(bound)
        leaves = {name: value.detach().requires_grad_() for name, value in task.first.items()}
        with torch.enable_grad():
            fast = learner.adapting(leaves)
            for index in range(max(len(task.grads) - 1, learner.least_steps)):
                fast = learner.moved(leaves, fast, _along(task, index), index)
        grads = learner.task_gradient(leaves, without_moments(fast), task.grads[-1])
        with uninterrupted():
            _write(bound, task.first)
            self._task = None
            self._add(grads, task.losses[-1])
            return self._stepped() if len(self._query_losses) >= self._tasks_per_step else None

    def _add(self, grads: Params, query_loss: float) -> None:
        """Count a task's meta-gradient towards the next outer step."""
        if not _are_finite(grads):
            raise NumericsError(
                f"outer step {self._learning.step + 1}: the meta-gradient of task "
                f"{len(self._query_losses) + 1} is not finite; the task is dropped, and the module "
                "is at its initialisation again; lower inner_lr or check the inputs"
            )
        for name, grad in grads.items():
            self._sums[name] = self._sums[name] + grad if name in self._sums else grad
        self._query_losses.append(query_loss)

    def _stepped(self) -> OuterStep:
        sums, losses = self._sums, self._query_losses
        with uninterrupted():
            self._sums, self._query_losses = {}, []
            norm = self._learning.follow(sums, n_episodes=len(losses))
        mean = math.fsum(losses) / len(losses)
        metrics = tuple(EpisodeMetrics(loss, None) for loss in losses)
        return OuterStep(self._learning.step, mean, None, norm, metrics)

    def _require_finite(self, loss: float, grads: Mapping[str, Tensor], *, n_before: int) -> None:
        what = ""
        if not math.isfinite(loss):
            what = f"the loss is {loss}"
        elif not _are_finite(grads):
            what = f"a gradient is not finite although the loss is {loss}"
        if what:
            self.drop_task()
            raise NumericsError(
                f"outer step {self._learning.step + 1}: {what} at batch {n_before + 1} of the "
                "task, which is dropped, and the module is at its initialisation again; lower "
                "inner_lr or check the inputs"
            )


_LATEST: WeakKeyDictionary[nn.Module, "ref[TrainingLoop]"] = WeakKeyDictionary()
"""Module -> the loop that began a task with it last."""


def _are_finite(grads: Mapping[str, Tensor]) -> bool:
    return bool(torch.stack([torch.isfinite(g).all() for g in grads.values()]).all())


def _along(task: _Task, index: int) -> Params:
    """Return a batch's gradient for the parameters that adapt."""
    return {name: task.grads[index][name] for name in without_moments(task.fast)}


def _steps_of(bound: Bound) -> Steps:
    learner: Any = bound.learner  # ``bind_to_losses`` made sure
    steps: Steps = learner
    return steps


def _of_module(bound: Bound) -> dict[str, Tensor]:
    """Return the module's learned parameters, where they live."""
    return {name: v for name, v in bound.state.params.items() if name.startswith(PREFIX)}


def _write(bound: Bound, values: Mapping[str, Tensor]) -> None:
    """Let the module hold these values, all of them even where an interrupt comes."""
    with uninterrupted(), torch.no_grad():
        for name, param in _of_module(bound).items():
            if name in values:
                param.copy_(values[name])
