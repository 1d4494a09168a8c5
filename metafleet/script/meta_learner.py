"""Meta-learning in a plain loop."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
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
from metafleet.script.journal import Journal, journal_of
from metafleet.script.learning import Choices, Learning, MakeOptimiser
from metafleet.script.outer_step import OuterStep
from metafleet.script.plain_episode import PlainEpisode, PlainSupport, as_support
from metafleet.script.runtime import Turns, running
from metafleet.script.saved_learner import load, save
from metafleet.script.training_loop import TrainingLoop

_JUDGED = "judged"
_EXECUTIONS = ("autograd", "vmap", "constant_memory")
"""Compilation is not offered: its cache on disk is keyed by the spec of a run's model."""


class MetaLearner:
    """Meta-trains a ``torch.nn.Module`` in the user's own loop; see docs/how-to/scripts.md.

        meta = MetaLearner(module, "maml", inner_lr=0.01, inner_steps=5, outer_lr=1e-3)
        for _ in range(1000):
            print(meta.optimize(draw_meta_batch()).loss)
        predict = meta.adapt((support_x, support_y))
        predict(x)

    A ``MetaLearner`` can also learn from the losses of a training loop. Successive batches then
    form a task:

        meta = MetaLearner(module)
        for inputs, labels in loader:
            meta.optimize(criterion(module(inputs), labels))

    Training updates the module's own parameters in place. After each step, the module holds the
    meta-learned initialisation. You can use and save the module like any other module. Parameters
    without ``requires_grad`` are neither trained nor adapted. If an algorithm also learns other
    tensors, such as step sizes, the ``MetaLearner`` stores them.

    Batch norm in the module follows ``batch_norm``, which is one of the modes of
    ``metafleet.models.batch_norm``. It does not follow ``train()`` and ``eval()``. If the module
    keeps running statistics, the default mode is "running". In this mode, meta-training normalises
    every batch by its own statistics, and an outer step updates the module's running statistics
    once. Evaluation normalises by the running statistics.

    In meta-training, dropout follows ``train()`` and ``eval()``. Outside meta-training, dropout is
    off. The draws of dropout depend only on ``seed`` and the episode's position. The state of the
    global generators is preserved. Every episode of a step starts with the same values of the
    module's buffers. After the step, the buffers have the values that the first episode left.

    Shapes are inferred from the first episode. A ``MetaLearner`` is not thread-safe.

    Args:
        module: a module on any device and of any precision. Move the module to its device before
            you pass it. Learners with an output layer use the module's outputs. Learners that
            compare embeddings use the input of the submodule ``head``. If you do not name a head,
            they use the module's outputs.
        algorithm: a learner's name, or a class derived from ``EpisodicLearner``.
        loss: a function from outputs [n, ...] and targets [n, ...] to a scalar, used in inner and
            outer steps. If ``loss`` is None, the loss is the mean cross-entropy if targets are
            classes, and the mean squared error if targets are values.
        outer_lr: learning rate of Adam, unless ``optimiser`` is given.
        optimiser: a function that takes the learned parameters and returns the outer optimiser.
        clip_norm: maximum norm of the mean meta-gradient; 0 disables clipping.
        head: name of the submodule that is the output layer, such as "fc", for learners that
            distinguish head and body.
        batch_norm: a batch norm mode; None for the module's own behaviour.
        execution: how to compute meta-gradients. "autograd" computes one episode at a time. "vmap"
            computes the whole meta-batch at once, which is fast for small networks and on GPUs. The
            module must then support vmap, and all episodes must have the same shape.
            "constant_memory" keeps memory from growing with the number of inner steps.
        tasks_per_step: number of tasks in one outer step, for losses of a training loop.
        seed: seed for everything random.
        options: options of the learner, such as ``inner_lr``.

    Attributes:
        module: the module.
        step: number of outer steps taken.

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
            # if torch.compile wraps the module, use the names and arguments of the original
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
        self._journals: list[Journal] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module without adapting or training it."""
        return self.module(*args, **kwargs)

    def __repr__(self) -> str:
        return described(self._learning, waiting=self._loop.waiting)

    @property
    def step(self) -> int:
        """Outer steps done."""
        return self._learning.step

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The outer optimiser, to which torch's schedulers can be attached.

        Raises:
            ConfigError: no episode was seen yet, or there are no parameters to learn.
        """
        return self._learning.require_bound().require_optimiser()

    @property
    def batch_norm(self) -> str:
        """The batch norm mode; report it with every result.

        Raises:
            ConfigError: no episode was seen yet.
        """
        return self._learning.require_bound().learner.batch_norm

    def bind(self, support: PlainSupport) -> None:
        """Bind the learner to the shapes of a support set, as the first episode also does.

        Raises:
            ConfigError: algorithm, module and data do not fit together.
            DataError: ``support`` is not a support set.
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
        """Take one outer step: adapt to each episode, and step along the mean meta-gradient.

        If ``execution`` computes episodes one by one, only one episode is in memory at a time. A
        generator may then yield any number of episodes.

        You can pass a loss instead of episodes. The loss then counts as one batch of a training
        loop. The batch is either an inner step of the current task or the task's query; see
        docs/how-to/scripts.md.

        Args:
            episodes: a meta-batch of episodes, or a scalar loss of the module's outputs. An episode
                is a tuple (support x, support y, query x, query y) or an ``Episode``.
            further: must be empty. Labels and similar arguments belong in the loss.

        Raises:
            NumericsError: a loss or gradient is not finite; the message names the step and the
                episode or batch. The learned state does not change. The current task of a training
                loop is dropped.
            ConfigError, DataError: an episode or the loss does not fit algorithm and module.
        """
        if further:
            raise ConfigError(
                f"optimize is given {1 + len(further)} things; expected one: optimize(loss), of a "
                "batch's outputs, or optimize([episodes]), each (sx, sy, qx, qy)"
            )
        if isinstance(episodes, Tensor):
            batch = self._loop.take(episodes)
            self._note(batch.outer)
            return batch
        self._loop.require_none()
        with running(self.module, is_training=True) as turns:
            apart, before = EpisodesApart(self._learning.hidden), self.step
            try:
                outer = self._step(episodes, turns, apart)
            except BaseException:
                if self.step == before:  # else the step was complete when the interrupt came
                    with uninterrupted():
                        apart.undo()
                raise
        self._note(outer)
        return outer

    def _step(
        self, episodes: Iterable[PlainEpisode], turns: Turns, apart: EpisodesApart
    ) -> OuterStep:
        learning = self._learning
        if not learning.is_decided:
            learning.use(learning.asked)
        step = self.step + 1
        is_mapped = learning.choices.execution == "vmap"  # reads all episodes, then computes
        latest: deque[Mapping[str, Tensor]] = deque(maxlen=self._n_under_way)
        each = prepared(learning, episodes, META_TRAIN, step, latest, turns)
        each = each if is_mapped else apart.each(each)
        first = next(each, None)  # binds the learner if it is not bound yet
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
            bound.check_mapped(first)  # a one-line error if mapping was the cause
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
        """End the current task of a training loop. The last batch of the task is the query.

        Args:
            finish: whether to take the outer step even with fewer than ``tasks_per_step`` tasks,
                for example after the last batch of a loop.

        Returns:
            The outer step. None if there is no current task, or if the outer step needs more tasks.
            With ``finish``, the result is None only if there was no batch since the last outer
            step.

        Raises:
            NumericsError: the meta-gradient is not finite; nothing is changed.
        """
        outer = self._loop.next_task(finish=finish)
        self._note(outer)
        return outer

    def drop_task(self, *, finished: bool = False) -> None:
        """Discard the current task of a training loop, and reset the module to the task's start.

        Args:
            finished: whether to discard the finished tasks that wait for their outer step as well.
        """
        self._loop.drop_task()
        if finished:
            self._loop.forget()

    def adapt(self, support: PlainSupport) -> Adapted:
        """Adapt to a support set, and return the adapted module.

        Args:
            support: (x, y), an ``ExampleSet``, or an ``Episode``, whose support set is used.

        Raises:
            NumericsError: a support loss is not finite.
            ConfigError, DataError: the support set does not fit algorithm and module.
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

    def evaluate(self, episodes: Iterable[PlainEpisode], *, split: str = "evaluation") -> Summary:
        """Adapt to each episode's support set and evaluate on its query set, without training.

        Args:
            episodes: the episodes.
            split: the name under which ``tracked`` sends the result, such as "meta_val".

        Returns:
            Means over the episodes, with the half-widths of their 95 % confidence intervals.

        Raises:
            NumericsError: a loss is not finite; the message names the episode.
            ConfigError, DataError: an episode does not fit algorithm and module.
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
        found = summarise(metrics)
        for journal in self._journals:
            journal.add_evaluation(self.step, split, found)
        return found

    def save(self, path: str | Path) -> None:
        """Save to one safetensors file everything that is needed to resume training.

        The file holds the module's ``state_dict``, the state of the learner and of the outer
        optimiser, and the step. During a task of a training loop, the module is saved as it was at
        the start of the task. An existing file is replaced only when the new file is complete.

        Raises:
            ConfigError: no episode was seen yet.
            CheckpointError: the file cannot be written.
        """
        with self._loop.set_aside():
            save(Path(path), self._learning.require_bound(), step=self.step)
        for journal in self._journals:
            journal.add_file(self.step, Path(path))

    def load(self, path: str | Path) -> None:
        """Load a file that ``save`` wrote for the same module, algorithm and options.

        The current task of a training loop is discarded.

        Raises:
            CheckpointError: the file is missing or damaged, or it belongs to another module or
                algorithm. The learned state is then unchanged.
        """
        with uninterrupted():
            load(Path(path), self._learning)
            self._loop.forget()

    @contextmanager
    def tracked(self, *targets: Any, name: str = "script", uid: str | None = None) -> Iterator[str]:
        """Send outer steps, evaluations and saved files to trackers during the block.

        The trackers show the run as finished after the block, and as failed if the block raises an
        error. A tracker that fails does not stop the training: it is reported once, in the log.

        Args:
            targets: where to send the run: texts such as "tensorboard:logs", "mlflow:URI",
                "wandb:PROJECT", "trackio:PROJECT", "jsonl:FOLDER" or "parquet:FOLDER", or open runs
                of these libraries; see docs/how-to/mlflow.md.
            name: name of the run and its experiment.
            uid: the uid of an earlier block, to continue its run after ``load``; the trackers then
                get only what they lack. None for a new run.

        Yields:
            The uid of the run.

        Raises:
            ConfigError: a target is unknown, or its library is not installed.
        """
        choices, algorithm = self._learning.choices, self._learning.asked
        options = asdict(algorithm.options)
        config = {"learner": {"name": algorithm.name, **options}, "seed": choices.seed}
        with journal_of(targets, name=name, uid=uid, seed=choices.seed, config=config) as journal:
            self._journals.append(journal)
            try:
                yield journal.run.uid
            finally:
                self._journals.remove(journal)

    def _note(self, outer: OuterStep | None) -> None:
        """Add an outer step to the journals."""
        if outer is None:
            return
        for journal in self._journals:
            journal.add_step(outer, float(self.optimiser.param_groups[0]["lr"]))

    @property
    def _n_under_way(self) -> int | None:
        """Number of input sets in computation at a time; None for all of them."""
        return None if self._learning.choices.execution == "vmap" else PARTS
