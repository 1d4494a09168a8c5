"""Meta-learning in a plain loop."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from metafleet.episode import META_TRAIN, Episode, ExampleSet
from metafleet.errors import CheckpointError, ConfigError, DataError, MetafleetError, NumericsError
from metafleet.execution import make_execution
from metafleet.learners.base import LearnerClass
from metafleet.models.module_function import ModuleFunction
from metafleet.options import require
from metafleet.params import Params
from metafleet.problem import LossFn
from metafleet.script.adapted import Adapted
from metafleet.script.arguments import (
    check_loss,
    check_make_optimiser,
    check_module,
    check_optimiser,
    check_rates,
    check_seed,
)
from metafleet.script.binding import Algorithm, bind, example_parameter
from metafleet.script.bound import Bound
from metafleet.script.learned_state import LearnedState
from metafleet.script.outer_step import OuterStep
from metafleet.script.plain_episode import (
    PlainEpisode,
    PlainSupport,
    as_episode,
    as_support,
    check_classes,
)
from metafleet.script.runtime import running
from metafleet.script.saved_learner import read_header, restore, save
from metafleet.seeds import CounterRng
from metafleet.summary import Summary, summarise

MakeOptimiser = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
"""Learned parameters -> what steps them, such as ``lambda params: SGD(params, lr=0.1)``."""

_JUDGED = "judged"
_PARTS = 2
"""Of an episode: its support and its query set."""
_EXECUTIONS = ("autograd", "vmap", "constant_memory")
"""Machine code is left out: it is kept on disk by what a run's model is made of."""


class MetaLearner:
    """Meta-trains a ``torch.nn.Module`` in a loop of the user's; docs/scripts.md says more.

        meta = MetaLearner(module, "maml", inner_lr=0.01, inner_steps=5, outer_lr=1e-3)
        for _ in range(1000):
            print(meta.optimize(draw_meta_batch()).loss)
        predict = meta.adapt((support_x, support_y))
        predict(x)

    The module's own parameters are what is learned, where they are: after each step it is the
    meta-learned initialisation, to be used and saved like any module. Those without
    ``requires_grad`` stay as they are and do not adapt. What an algorithm learns besides, such as
    step sizes, is kept here.

    Batch norm in the module follows ``batch_norm`` (the modes of ``metafleet.models.batch_norm``),
    not ``train()`` and ``eval()``. By default a module that keeps running statistics has "running":
    in meta-training every batch is normalised by its own statistics and an outer step moves the
    module's running ones once; when episodes are judged, the running ones normalise.

    Dropout follows ``train()`` in meta-training and is off otherwise. What it draws depends on
    ``seed`` and the episode's place alone; torch's global generators are left as they were.

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
        seed: int = 1,
        **options: Any,
    ) -> None:
        check_module(module)
        check_loss(loss)
        check_make_optimiser(optimiser)
        check_rates(outer_lr=outer_lr, clip_norm=clip_norm)
        check_seed(seed)
        self.module = module
        self.step = 0
        self._algorithm = Algorithm.of(algorithm, options)
        self._function = ModuleFunction(module, head=head)
        self._loss = loss
        self._make_optimiser = optimiser or (lambda params: torch.optim.Adam(params, lr=outer_lr))
        self._clip_norm = clip_norm
        self._batch_norm = batch_norm
        known = ", ".join(map(repr, _EXECUTIONS))
        expected = f"one of {known}; machine code is for runs, which keep it"
        require(execution in _EXECUTIONS, "execution", execution, expected)
        self._execution = execution
        self._seed = seed
        self._like: Tensor = example_parameter(module)
        self._bound: Bound | None = None

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The outer optimiser, for schedules of torch; there is one once ``bind`` was called.

        Raises:
            ConfigError: no episode was seen yet, or nothing is learned.
        """
        return self._require_bound().require_optimiser()

    @property
    def batch_norm(self) -> str:
        """Batch norm mode, to state with every result.

        Raises:
            ConfigError: no episode was seen yet.
        """
        return self._require_bound().learner.batch_norm

    def bind(self, support: PlainSupport) -> None:
        """Fit learner and module to data such as this support set, as the first episode does.

        Raises:
            ConfigError: they do not fit.
            DataError: it is no support set.
        """
        self._bind(*as_support(support, self._like))

    def optimize(self, episodes: Iterable[PlainEpisode]) -> OuterStep:
        """Do one outer step: adapt to each episode, and follow the mean meta-gradient.

        One by one, episodes take the memory of one, so a generator may be as long as it likes.

        Args:
            episodes: a meta-batch: (support x, support y, query x, query y) each, or ``Episode``s.

        Raises:
            NumericsError: a loss or gradient is not finite; names step and episode. Nothing is
                changed then.
            ConfigError, DataError: an episode does not fit.
        """
        step = self.step + 1
        latest: deque[Mapping[str, Tensor]] = deque(maxlen=self._n_under_way)
        with running(self.module, is_training=True):
            each = self._prepared(episodes, META_TRAIN, step, latest)
            first = next(each, None)  # it binds, where nothing is bound yet
            if first is None:
                raise ConfigError("the meta-batch has 0 episodes; expected 1 or more")
            bound = self._require_bound()
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
        n_episodes = len(found.metrics)
        norm = self._follow(found.grads, step=step, n_episodes=n_episodes)
        bound.state.move_statistics(found.buffers, n_episodes=n_episodes)
        self.step = step
        means = summarise(found.metrics)
        return OuterStep(step, means.loss, means.accuracy, norm, found.metrics)

    def adapt(self, support: PlainSupport) -> Adapted:
        """Adapt to a support set, and return what predicts.

        Args:
            support: (x, y), an ``ExampleSet``, or an ``Episode`` whose support set is meant.

        Raises:
            NumericsError: a support loss is not finite.
            ConfigError, DataError: it does not fit.
        """
        examples, n_way = as_support(support, self._like)
        bound, n_way = self._bind(examples, n_way)
        with running(self.module, is_training=False):
            bound.binding.factory.check(examples.inputs)
            torch.manual_seed(self._seed)
            state = bound.state.copy()
            with bound.binding.factory.explaining([examples.inputs]):
                adaptation = bound.learner.adapt(state, examples, n_way, seed=self._seed)
        return Adapted(adaptation, bound.binding.factory, like=self._like)

    def evaluate(self, episodes: Iterable[PlainEpisode]) -> Summary:
        """Adapt to each episode and judge it on its query set; nothing is learned.

        Returns:
            Means over the episodes, with half widths of their 95 % intervals.

        Raises:
            NumericsError: a loss is not finite; names the episode.
            ConfigError, DataError: an episode does not fit.
        """
        metrics = []
        latest: deque[Mapping[str, Tensor]] = deque(maxlen=_PARTS)
        with running(self.module, is_training=False):
            for index, episode in enumerate(self._prepared(episodes, _JUDGED, 0, latest)):
                bound = self._require_bound()
                try:
                    with bound.binding.factory.explaining(latest):
                        metrics.append(bound.learner.evaluate(bound.state.view(), episode))
                except NumericsError as error:
                    raise NumericsError(f"episode={index}: {error}") from error
        return summarise(metrics)

    def save(self, path: str | Path) -> None:
        """Write all that is learned, and what going on needs, to one safetensors file.

        In it: the module's ``state_dict``, what the learner and the outer optimiser keep, the step.
        A file that is there stays until the new one is whole.

        Raises:
            ConfigError: no episode was seen yet.
            CheckpointError: it cannot be written.
        """
        save(Path(path), self._require_bound(), step=self.step)

    def load(self, path: str | Path) -> None:
        """Take back what ``save`` wrote, into the same module, algorithm and options.

        Raises:
            CheckpointError: the file is missing, damaged, or another module's or algorithm's;
                nothing that is learned is changed then.
        """
        header = read_header(Path(path), self._algorithm)
        before = self._bound
        try:
            if self._bound is None:
                self._bind(*header.example(self._like))
            bound = self._require_bound()
            bound.binding.check(header.n_way)
            restore(Path(path), bound, header)
        except MetafleetError as error:
            self._bound = before
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} does not fit: {error}") from error
        self.step = header.step

    # what the methods above share

    def _require_bound(self) -> Bound:
        if self._bound is None:
            raise ConfigError("no episode was seen yet; call bind with a support set, or optimize")
        return self._bound

    def _bind(self, support: ExampleSet, n_way: int) -> tuple[Bound, int]:
        """Bind where nothing is yet; return what is bound, and the n_way it takes these with."""
        if self._bound is None:
            with running(self.module, is_training=False):
                binding = bind(
                    *(self._algorithm, self._function, support, n_way),
                    loss=self._loss,
                    batch_norm=self._batch_norm,
                )
            state = LearnedState(binding.learner, self._function, seed=self._seed, like=self._like)
            params = list(state.params.values())
            optimiser = self._make_optimiser(params) if params else None
            if params:
                check_optimiser(optimiser)
            device = str(self._like.device)
            execution = make_execution(self._execution, binding.learner, device=device)
            self._bound = Bound(binding, state, optimiser, execution)
        return self._bound, self._bound.binding.check(n_way)

    @property
    def _n_under_way(self) -> int | None:
        """How many sets of inputs are computed with at a time; None: as many as there are."""
        return None if self._execution == "vmap" else _PARTS

    def _prepared(
        self,
        episodes: Iterable[PlainEpisode],
        split: str,
        step: int,
        latest: deque[Mapping[str, Tensor]],
    ) -> Iterator[Episode]:
        """Make each episode ready when it is asked for, and note its inputs in ``latest``."""
        if not isinstance(episodes, Iterable):
            raise DataError(
                f"episodes are of type {type(episodes).__name__}; expected several in a list or "
                "generator"
            )
        for index, given in enumerate(episodes):
            episode = self._episode(given, CounterRng(self._seed, f"{split}/draw", step, index))
            latest.extend((episode.support.inputs, episode.query.inputs))
            yield episode

    def _episode(self, given: PlainEpisode, rng: CounterRng) -> Episode:
        episode = as_episode(given, self._like)
        bound, n_way = self._bind(episode.support, episode.n_way)
        check_classes(*(episode.query, n_way), whose="query", may_be_ignored=self._loss is not None)
        for part in (episode.support, episode.query):
            bound.binding.factory.check(part.inputs)
        # the learner's seed is the one that an orchestrator's run would give
        seed = rng.torch_seed()
        torch.manual_seed(rng.torch_seed())
        return replace(episode, n_way=n_way, step=self.step + 1, seed=seed)

    def _follow(self, grads: Params, *, step: int, n_episodes: int) -> float:
        """Step along the mean of the gradients; return its norm."""
        bound = self._require_bound()
        optimiser = bound.require_optimiser()
        norm = bound.state.set_gradients(grads, n_episodes=n_episodes)
        try:
            if not math.isfinite(norm):
                raise NumericsError(
                    f"outer step {step}: the norm of the mean meta-gradient is {norm}; lower "
                    "outer_lr or inner_lr, or set clip_norm"
                )
            if 0.0 < self._clip_norm < norm:
                bound.state.scale_gradients(self._clip_norm / norm)
            optimiser.step()
        finally:
            bound.state.drop_gradients()
        return norm
