"""Meta-learning in a plain loop."""

from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from metafleet.episode import META_TRAIN
from metafleet.errors import ConfigError, NumericsError
from metafleet.interrupts import uninterrupted
from metafleet.learners.base import LearnerClass
from metafleet.learners.summary import Summary, summarise
from metafleet.models.module_function import ModuleFunction
from metafleet.options import require
from metafleet.problem import LossFn
from metafleet.script.adapted import Adapted
from metafleet.script.arguments import (
    check_batch_norm,
    check_loss,
    check_make_optimiser,
    check_module,
    check_rates,
    check_seed,
    check_tasks_per_step,
)
from metafleet.script.batch_step import BatchStep
from metafleet.script.binding import Algorithm, example_parameter
from metafleet.script.described import described
from metafleet.script.episode_stream import PARTS, prepared
from metafleet.script.episodes_apart import EpisodesApart
from metafleet.script.learning import Choices, Learning, MakeOptimiser
from metafleet.script.outer_step import OuterStep
from metafleet.script.plain_episode import PlainEpisode, PlainSupport, as_support
from metafleet.script.runtime import Turns, running
from metafleet.script.saved_learner import load, save
from metafleet.script.training_loop import TrainingLoop

_JUDGED = "judged"
_EXECUTIONS = ("autograd", "vmap", "constant_memory")
"""Machine code is left out: it is kept on disk by what a run's model is made of."""


class MetaLearner:
    """Meta-trains a ``torch.nn.Module`` in a loop of the user's; docs/how-to/scripts.md says more.

        meta = MetaLearner(module, "maml", inner_lr=0.01, inner_steps=5, outer_lr=1e-3)
        for _ in range(1000):
            print(meta.optimize(draw_meta_batch()).loss)
        predict = meta.adapt((support_x, support_y))
        predict(x)

    Or from the losses of a training loop, one a batch, whose batches are tasks one after the other:

        meta = MetaLearner(module)
        for inputs, labels in loader:
            meta.optimize(criterion(module(inputs), labels))

    The module's own parameters are what is learned, where they are: after each step it is the
    meta-learned initialisation, to be used and saved like any module. Those without
    ``requires_grad`` stay as they are and do not adapt. What an algorithm learns besides, such as
    step sizes, is kept here.

    Batch norm in the module follows ``batch_norm`` (the modes of ``metafleet.models.batch_norm``),
    not ``train()`` and ``eval()``. By default a module that keeps running statistics has "running":
    in meta-training every batch is normalised by its own statistics and an outer step moves the
    module's running ones once; when episodes are judged, the running ones normalise.

    Dropout follows ``train()`` in meta-training and is off otherwise. What it draws depends on
    ``seed`` and the episode's place alone; global generators are left as the script left them.
    Buffers are for every episode what they are for the first, whose changes stay.

    Shapes are looked at when the first episode comes. Not thread-safe.

    Args:
        module: on any device, of any precision; move it before it is given here. Learners with an
            output layer take the module's outputs; those that compare embeddings take what goes
            into ``head`` where one is named, else the outputs.
        algorithm: a learner's name, or a class derived from ``EpisodicLearner``.
        loss: outputs [n, ...] and targets [n, ...] to a scalar, for inner and outer steps; None for
            the mean cross-entropy where targets are classes, else the mean squared error.
        outer_lr: learning rate of Adam, where ``optimiser`` makes nothing else.
        optimiser: makes the outer optimiser of the learned parameters.
        clip_norm: longest mean meta-gradient; 0: as it is.
        head: name of the submodule that is the output layer, such as "fc", for learners that tell
            head and body apart.
        batch_norm: a mode; None for what the module itself would do.
        execution: how meta-gradients are computed: episode by episode; all of a meta-batch mapped
            as one, for small networks and GPUs, where the module can be mapped and all episodes
            have one shape; or with memory that does not grow with the inner steps.
        tasks_per_step: tasks of a training loop that make one outer step.
        seed: of all that is random here.
        options: those of the learner, such as ``inner_lr``.

    Attributes:
        module: the module.
        step: outer steps done.

    Raises:
        ConfigError: an option is wrong.
    """

    def __init__(  # noqa: PLR0913 - the front door: independent choices, made by name
        self,
        module: nn.Module,
        algorithm: str | type[LearnerClass] = "maml",
        *,
        loss: LossFn | None = None,
        outer_lr: float = 1e-3,
        optimiser: MakeOptimiser | None = None,
        clip_norm: float = 0.0,
        head: str | None = None,
        batch_norm: str | None = None,
        execution: Literal["autograd", "vmap", "constant_memory"] = "autograd",
        tasks_per_step: int = 1,
        seed: int = 1,
        **options: Any,
    ) -> None:
        check_module(module)
        check_loss(loss)
        check_make_optimiser(optimiser)
        check_rates(outer_lr=outer_lr, clip_norm=clip_norm)
        check_batch_norm(batch_norm)
        check_seed(seed)
        check_tasks_per_step(tasks_per_step)
        known = ", ".join(map(repr, _EXECUTIONS))
        expected = f"one of {known}; machine code is for runs, which keep it"
        require(execution in _EXECUTIONS, "execution", execution, expected)
        self.module = module
        self._learning = Learning(
            # names and arguments of the module itself, where torch.compile wraps it
            ModuleFunction(getattr(module, "_orig_mod", module), head=head, packs=loss is not None),
            Algorithm.of(algorithm, options),
            Choices(
                loss=loss,
                make_optimiser=optimiser or partial(torch.optim.Adam, lr=outer_lr),
                clip_norm=clip_norm,
                batch_norm=batch_norm,
                execution=execution,
                seed=seed,
            ),
            like=example_parameter(module),
        )
        self._loop = TrainingLoop(self._learning, tasks_per_step=tasks_per_step)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module as it is: nothing adapts, nothing is learned."""
        return self.module(*args, **kwargs)

    def __repr__(self) -> str:
        return described(self._learning, waiting=self._loop.waiting)

    @property
    def step(self) -> int:
        """Outer steps done."""
        return self._learning.step

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The outer optimiser, for schedules of torch; there is one once ``bind`` was called.

        Raises:
            ConfigError: no episode was seen yet, or nothing is learned.
        """
        return self._learning.require_bound().require_optimiser()

    @property
    def batch_norm(self) -> str:
        """Batch norm mode, to state with every result.

        Raises:
            ConfigError: no episode was seen yet.
        """
        return self._learning.require_bound().learner.batch_norm

    def bind(self, support: PlainSupport) -> None:
        """Fit learner and module to data such as this support set, as the first episode does.

        Raises:
            ConfigError: they do not fit.
            DataError: it is no support set.
        """
        self._learning.bind(
            *as_support(
                support,
                self._learning.like,
                self._learning.ignored_in_support,
                self._learning.loss_of_targets,
            )
        )

    @overload
    def optimize(self, episodes: Tensor) -> BatchStep: ...
    @overload
    def optimize(self, episodes: Iterable[PlainEpisode]) -> OuterStep: ...
    def optimize(
        self, episodes: Iterable[PlainEpisode] | Tensor, *further: Any
    ) -> OuterStep | BatchStep:
        """Do one outer step: adapt to each episode, and follow the mean meta-gradient.

        One by one, episodes take the memory of one, so a generator may be as long as it likes.

        A loss in their place is a batch of a training loop: an inner step of the task under way,
        or its query; docs/how-to/scripts.md says more.

        Args:
            episodes: a meta-batch: (support x, support y, query x, query y) each, or ``Episode``s;
                or a scalar loss of the module's outputs.
            further: refused; labels and the like belong into the loss.

        Raises:
            NumericsError: a loss or gradient is not finite; names step and episode, or batch.
                Nothing is changed then, and the task of a loop is dropped.
            ConfigError, DataError: an episode or the loss does not fit.
        """
        if further:
            raise ConfigError(
                f"optimize is given {1 + len(further)} things; expected one: optimize(loss), of a "
                "batch's outputs, or optimize([episodes]), each (sx, sy, qx, qy)"
            )
        if isinstance(episodes, Tensor):
            return self._loop.take(episodes)
        self._loop.require_none()
        with running(self.module, is_training=True) as turns:
            apart, before = EpisodesApart(self._learning.hidden), self.step
            try:
                return self._step(episodes, turns, apart)
            except BaseException:
                if self.step == before:  # else the step was whole when an interrupt came
                    with uninterrupted():
                        apart.undo()
                raise

    def _step(
        self, episodes: Iterable[PlainEpisode], turns: Turns, apart: EpisodesApart
    ) -> OuterStep:
        learning = self._learning
        if not learning.is_decided:
            learning.use(learning.asked)
        step = self.step + 1
        is_mapped = learning.choices.execution == "vmap"  # all are there before one is computed
        latest: deque[Mapping[str, Tensor]] = deque(maxlen=self._n_under_way)
        each = prepared(learning, episodes, META_TRAIN, step, latest, turns)
        each = each if is_mapped else apart.each(each)
        first = next(each, None)  # it binds, where nothing is bound yet
        if first is None:
            raise ConfigError("the meta-batch has 0 episodes; expected 1 or more")
        bound = learning.require_bound()
        bound.state.require_unchanged()
        bound.check_execution()
        bound.require_optimiser()
        try:
            with bound.binding.factory.explaining(latest):
                found = bound.execution.gradient(bound.state.view(), chain([first], each))
        except NumericsError as error:
            raise NumericsError(f"outer step {step}: {error}") from error
        except Exception:
            bound.check_mapped(first)  # one line, where mapping is what failed
            raise
        means = summarise(found.metrics)
        norm = learning.follow(
            found.grads,
            n_episodes=len(found.metrics),
            buffers=found.buffers,
            settle=(lambda: None) if is_mapped else apart.settle,
        )
        return OuterStep(step, means.loss, means.accuracy, norm, found.metrics)

    def next_task(self, *, finish: bool = False) -> OuterStep | None:
        """End the task that a training loop is in; the last batch is its query.

        Args:
            finish: take the outer step with the tasks there are, also where they are fewer than
                ``tasks_per_step``: after the last batch of a loop, say.

        Returns:
            The outer step; None where no task is under way, or more tasks make a step. With
            ``finish``, None only where no batch came since the last outer step.

        Raises:
            NumericsError: the meta-gradient is not finite; nothing is changed.
        """
        return self._loop.next_task(finish=finish)

    def drop_task(self, *, finished: bool = False) -> None:
        """Forget the task that a training loop is in, and go back to where it began.

        Args:
            finished: forget as well the tasks that ended and wait for others of their outer step.
        """
        self._loop.drop_task()
        if finished:
            self._loop.forget()

    def adapt(self, support: PlainSupport) -> Adapted:
        """Adapt to a support set, and return what predicts.

        Args:
            support: (x, y), an ``ExampleSet``, or an ``Episode`` whose support set is meant.

        Raises:
            NumericsError: a support loss is not finite.
            ConfigError, DataError: it does not fit.
        """
        learning = self._learning
        examples, n_way = as_support(
            support, learning.like, learning.ignored_in_support, learning.loss
        )
        bound, n_way = learning.bind(examples, n_way)
        learning.is_judged = True
        seed = learning.choices.seed
        with (
            self._loop.set_aside(),
            running(self.module, is_training=False) as turns,
            learning.hidden.kept(),
        ):
            bound.binding.factory.check(examples.inputs)
            turns.generators.seed(seed)
            state = bound.state.copy()
            with bound.binding.factory.explaining([examples.inputs]):
                adaptation = bound.learner.adapt(state, examples, n_way, seed=seed)
            learning.hidden.unlink()
            left = learning.hidden.capture()
        return Adapted(adaptation, bound.binding.factory, learning.hidden, left, like=learning.like)

    def evaluate(self, episodes: Iterable[PlainEpisode]) -> Summary:
        """Adapt to each episode and judge it on its query set; nothing is learned.

        Returns:
            Means over the episodes, with half widths of their 95 % intervals.

        Raises:
            NumericsError: a loss is not finite; names the episode.
            ConfigError, DataError: an episode does not fit.
        """
        learning = self._learning
        metrics = []
        latest: deque[Mapping[str, Tensor]] = deque(maxlen=PARTS)
        with self._loop.set_aside(), running(self.module, is_training=False) as turns:
            each = prepared(learning, episodes, _JUDGED, 0, latest, turns)
            for index, episode in enumerate(each):
                bound = learning.require_bound()
                learning.is_judged = True
                try:
                    with learning.hidden.kept(), bound.binding.factory.explaining(latest):
                        metrics.append(bound.learner.evaluate(bound.state.view(), episode))
                except NumericsError as error:
                    raise NumericsError(f"episode={index}: {error}") from error
        return summarise(metrics)

    def save(self, path: str | Path) -> None:
        """Write all that is learned, and what going on needs, to one safetensors file.

        In it: the module's ``state_dict``, what the learner and the outer optimiser keep, the step.
        While a training loop is in a task, the module is saved as it was when the task began.
        A file that is there stays until the new one is whole.

        Raises:
            ConfigError: no episode was seen yet.
            CheckpointError: it cannot be written.
        """
        with self._loop.set_aside():
            save(Path(path), self._learning.require_bound(), step=self.step)

    def load(self, path: str | Path) -> None:
        """Take back what ``save`` wrote, into the same module, algorithm and options.

        A task of a training loop that is under way is dropped.

        Raises:
            CheckpointError: the file is missing, damaged, or another module's or algorithm's;
                nothing that is learned is changed then.
        """
        with uninterrupted():
            load(Path(path), self._learning)
            self._loop.forget()

    @property
    def _n_under_way(self) -> int | None:
        """How many sets of inputs are computed with at a time; None: as many as there are."""
        return None if self._learning.choices.execution == "vmap" else PARTS
