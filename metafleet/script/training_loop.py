"""Meta-learning from the losses of a training loop."""

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
    """The current task. Its tensors have no autograd graph, so the task can be copied.

    Attributes:
        first: learned parameters at the start of the task.
        fast: adapted parameters and the moments of the inner optimiser.
        grads: gradient of each batch so far, for the module's parameters.
        losses: loss of each batch so far.
    """

    first: Params
    fast: Params
    grads: list[Params] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class TrainingLoop:
    """Meta-trains from losses. During a task, the module holds the adapted parameters.

    Args:
        learning: the learned state.
        tasks_per_step: number of tasks in an outer step.
    """

    def __init__(self, learning: Learning, *, tasks_per_step: int) -> None:
        self._learning = learning
        self._tasks_per_step = tasks_per_step
        self._task: _Task | None = None
        self._sums: Params = {}
        self._query_losses: list[float] = []

    @property
    def waiting(self) -> str:
        """Finished tasks and batches of the current one since the last outer step; "" if none."""
        n_batches = 0 if self._task is None else len(self._task.losses)
        n_tasks = len(self._query_losses)
        if not n_batches and not n_tasks:
            return ""
        tasks = "1 task" if n_tasks == 1 else f"{n_tasks} tasks"
        return f"{tasks} and " + ("1 batch" if n_batches == 1 else f"{n_batches} batches")

    def take(self, loss: Tensor) -> BatchStep:
        """Take an inner step along the gradient of ``loss``, or use ``loss`` as the query loss.

        Raises:
            ConfigError: the loss is not a scalar that depends on the module's parameters, the
                learner needs more than losses, or the module has changed since the learner was
                bound to it. If this error is raised, nothing is changed.
            NumericsError: the loss or its gradient is not finite. The task is dropped.
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
        """End the current task, with its last batch as query; return the outer step, if taken.

        Args:
            finish: whether to take the outer step even if fewer than ``tasks_per_step`` tasks have
                ended.

        Raises:
            NumericsError: the meta-gradient is not finite. The task is dropped.
        """
        outer = None if self._task is None else self._end(self._task)
        return self._stepped() if finish and self._query_losses else outer

    def drop_task(self) -> None:
        """Discard the current task, and reset the module to its initialisation."""
        with uninterrupted():
            if self._task is not None:
                _write(self._learning.require_bound(), self._task.first)
            self._task = None

    def forget(self) -> None:
        """Discard all tasks since the last outer step; the module is left unchanged."""
        self._task, self._sums, self._query_losses = None, {}, []

    def require_none(self) -> None:
        """Check that no task is pending, so that episodes can be computed.

        Raises:
            ConfigError: this loop has pending batches, or another loop is in a task of the same
                module.
        """
        self._require_alone()
        if self.waiting:
            raise ConfigError(
                f"a training loop has {self.waiting} that no outer step was taken with; "
                "take it (next_task(finish=True)), or drop them (drop_task(finished=True)), before "
                "episodes"
            )

    def _require_alone(self) -> None:
        """Check that the module does not hold the adapted parameters of another loop's task.

        Raises:
            ConfigError: the module holds such parameters.
        """
        latest = _LATEST.get(self._learning.module, lambda: None)()
        if latest not in (None, self) and latest._task is not None:
            raise ConfigError(
                "another MetaLearner of this module is within a task, whose parameters the module "
                "holds; end that task there first: next_task(finish=True), or drop_task()"
            )

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Make the module hold its initialisation inside the context."""
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
        """Restore the module's initialisation, and take the outer step if enough tasks have ended.

        The last batch is the query. If the query is the task's only batch, MAML's meta-gradient is
        the gradient of plain training, and Reptile takes an inner step on the query.
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
        """Add a task's meta-gradient to the next outer step."""
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
"""Module -> the loop that last began a task with it."""


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
    """Return the module's live learned parameters."""
    return {name: v for name, v in bound.state.params.items() if name.startswith(PREFIX)}


def _write(bound: Bound, values: Mapping[str, Tensor]) -> None:
    """Copy all these values into the module, even if an interrupt arrives during the copy."""
    with uninterrupted(), torch.no_grad():
        for name, param in _of_module(bound).items():
            if name in values:
                param.copy_(values[name])
