"""The work of a run, built from its JSON description in any process.

``Workload.build`` turns a ``WorkloadSpec`` into a learner and an episode source. The in-process
dispatcher and the Celery workers call the same methods ``gradient`` and ``evaluate``. The result of
a shard (a part of a step's episodes) therefore does not depend on where it is computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from metafleet.cancellation import stop_if_unwanted
from metafleet.data.registry import Given, open_data
from metafleet.episode import META_TRAIN, Episode, ExampleSet
from metafleet.episodes.problem_of import problem_of
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError, DataCorruptError, ImpureError, NumericsError
from metafleet.execution import Execution, Strategy, check_mapped, make_execution
from metafleet.execution.compiled import CompiledExecution
from metafleet.learners.base import EpisodeAnswer, EpisodeMetrics, Learner, MetaGradient
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.registry import build_learner
from metafleet.models.module_mode import meta_training
from metafleet.models.registry import model_factory
from metafleet.params import MetaState, Params, schema_of
from metafleet.purity.hidden_state import BUFFERS, HiddenState
from metafleet.purity.process_state import checksum, kept_as_it_is, seed_generators
from metafleet.seeds import CounterRng
from metafleet.workload_spec import WorkloadSpec

__all__ = ["Workload", "WorkloadSpec"]

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Workload:
    """A learner and its episodes. It is stateless: every result depends only on the arguments.

    Attributes:
        spec: the spec from which the workload was built.
        learner: the learner.
        source: the source of episodes.
        device: torch device to compute on, such as "cpu" or "cuda".
        execution: the object that computes the episodes of meta-training.
        hidden: buffers of the modules in the learner's model.
    """

    spec: WorkloadSpec
    learner: Learner
    source: EpisodeSource
    device: str
    execution: Execution
    hidden: HiddenState

    @classmethod
    def build(
        cls,
        spec: WorkloadSpec,
        *,
        data_dir: Path,
        device: str = "cpu",
        allowed_packages: Sequence[str] = (),
        cache_dir: Path | None = None,
        given: Given | None = None,
    ) -> "Workload":
        """Open the data, and bind learner and model to them. This method caches nothing.

        Args:
            spec: the description to build from.
            data_dir: folder of the prepared data.
            device: torch device to compute on.
            allowed_packages: the user's top-level packages, from which data sets, learners and
                models named "package.module:Class" may be imported.
            cache_dir: folder in which execution "compiled" caches machine code.
            given: prepared data, which are used without changes; see ``open_data``.

        Raises:
            ConfigError: a name or option is wrong or does not fit the data.
            DataMissingError: the data are not in ``data_dir``.
            DataCorruptError: the data differ from those with which the run started.
        """
        data = open_data(spec.data, data_dir, allowed_packages=allowed_packages, given=given)
        found = data.digest()
        if found != spec.data_digest:
            raise DataCorruptError(
                f"data {spec.data.get('name')!r} in {data_dir} have digest {found[:12]}, the run "
                f"began with {spec.data_digest[:12]}; prepare the same version of the data"
            )
        return cls.bind(
            spec,
            data.open_source(),
            device=device,
            allowed_packages=allowed_packages,
            cache_dir=cache_dir,
        )

    @classmethod
    def bind(
        cls,
        spec: WorkloadSpec,
        source: EpisodeSource,
        *,
        device: str = "cpu",
        allowed_packages: Sequence[str] = (),
        cache_dir: Path | None = None,
    ) -> "Workload":
        """Build the workload on an open source. ``spec.data`` and ``spec.data_digest`` are ignored.

        Raises:
            ConfigError: a name or option is wrong or does not fit the source.
        """
        for split, shape in spec.episodes.items():
            source.check(split, shape)
        problem = problem_of(source, spec.episodes)
        with kept_as_it_is(device):  # random draws while building are the same in every process
            seed_generators(CounterRng(spec.seed, "build"), device)
            make_model = model_factory(spec.model, problem, allowed_packages=allowed_packages)
            learner = build_learner(
                spec.learner, problem, make_model, allowed_packages=allowed_packages
            )
        execution = make_execution(spec.execution, learner, device=device, cache_dir=cache_dir)
        hidden = HiddenState(learner, kinds=[BUFFERS])  # parameters are in the state
        return cls(spec, learner, source, device, execution, hidden)

    @property
    def batch_norm(self) -> str:
        """The learner's batch norm mode, to print with every result."""
        return self.learner.batch_norm

    def init_state(self) -> MetaState:
        """Draw the initial state of training, on the CPU."""
        with kept_as_it_is():
            seed_generators(CounterRng(self.spec.seed, "start"))
            return self.learner.init_state(self.spec.seed)

    def schema(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return name -> (dtype such as "float32", shape) of ``flatten_state(init_state())``."""
        return schema_of(self.init_state())

    def check_execution(self) -> None:
        """Check that the learner supports the spec's execution. The check computes two episodes.

        Raises:
            ConfigError: the learner does not support the execution.
        """
        if self.spec.execution.is_mapped:
            episodes = [self.sample(split=META_TRAIN, step=1, index=i) for i in range(2)]
            with meta_training():
                check_mapped(
                    self.learner,
                    self.init_state(),
                    episodes,
                    precision=self.spec.execution.precision,
                )

    def executed_by(self, strategy: Strategy) -> "Workload":
        """Return the same work with another execution, without a folder for compiled programs."""
        execution = make_execution(strategy, self.learner, device=self.device)
        spec = replace(self.spec, execution=strategy)
        return replace(self, spec=spec, execution=execution)

    def count_operations(self, n_episodes: int) -> int:
        """Count the operations of a compiled program for ``n_episodes`` episodes.

        Raises:
            ConfigError: the learner cannot be compiled.
        """
        strategy = Strategy("compiled", self.spec.execution.precision)
        compiled = CompiledExecution(strategy, self.learner, device="cpu", cache_dir=None)
        episodes = [self.sample(split=META_TRAIN, step=1, index=i) for i in range(n_episodes)]
        with meta_training():
            return compiled.count_operations(self.init_state(), episodes)

    def sample(self, *, split: str, step: int, index: int) -> Episode:
        """Draw one episode; it depends only on the run's seed and these three arguments."""
        shape = self.spec.episodes.get(split)
        if shape is None:
            known = ", ".join(map(repr, self.spec.episodes))
            raise ConfigError(f"split={split!r} has no episodes in this run; expected {known}")
        episode = self.source.sample(split, shape, CounterRng(self.spec.seed, split, step, index))
        draws = CounterRng(self.spec.seed, f"{split}/draw", step, index)
        return Episode(
            episode.support, episode.query, episode.n_way, step=step, seed=draws.torch_seed()
        )

    def gradient(
        self, state: MetaState, *, split: str, step: int, first_episode: int, n_episodes: int
    ) -> MetaGradient:
        """Sum the meta-gradients of episodes first_episode, first_episode + 1, ..., in that order.

        The global generators are seeded before each episode. The executions "vmap" and "compiled"
        compute a chunk of several episodes at once. They seed the generators before each chunk. At
        the end, the states of the generators and torch's modes are restored.

        Returns:
            The sum, on the CPU.

        Raises:
            NumericsError: a loss or gradient is not finite; the message names the episode.
            ImpureError: the learner wrote to ``state``, or the model wrote to one of its own
                buffers.
        """
        episodes = (
            self._drawn(split=split, step=step, index=index)
            for index in range(first_episode, first_episode + n_episodes)
        )
        try:
            with self._guarded(state), meta_training():
                here = self._on_device(state)
                found = self.execution.gradient(here, episodes, first=first_episode)
        except ImpureError:
            raise
        except NumericsError as error:
            raise NumericsError(f"{split} step={step} {error}") from error
        return MetaGradient(_move(found.grads, "cpu"), _move(found.buffers, "cpu"), found.metrics)

    def evaluate(
        self, state: MetaState, *, split: str, step: int, first_episode: int, n_episodes: int
    ) -> tuple[EpisodeMetrics, ...]:
        """Evaluate episodes first_episode, first_episode + 1, ..., in that order.

        Global generators are treated as in ``gradient``.

        Raises:
            NumericsError: a loss is not finite; the message names the episode.
            ImpureError: the learner wrote to ``state``, or the model wrote to one of its own
                buffers.
        """
        return self._measured(
            lambda here, episode: [self.learner.evaluate(here, episode)],
            state,
            split=split,
            step=step,
            episodes=range(first_episode, first_episode + n_episodes),
        )

    @property
    def n_inner_steps(self) -> int:
        """The number of inner steps in evaluation; 0 for a learner without inner steps."""
        if not isinstance(self.learner, InnerLoopLearner):
            return 0
        return self.learner.n_steps(is_training=False)

    def inner_metrics(
        self, state: MetaState, *, split: str, step: int, first_episode: int, n_episodes: int
    ) -> tuple[EpisodeMetrics, ...]:
        """Evaluate episodes after each inner step. Raises the errors of ``evaluate``.

        Returns:
            2 * (n_inner_steps + 1) metrics for each episode: support set and query set before the
            first inner step, support set and query set after the first inner step, and so on.

        Raises:
            ConfigError: the learner has no inner steps.
        """
        learner = self.learner
        if not isinstance(learner, InnerLoopLearner):
            raise ConfigError(
                f"learner {self.spec.learner.get('name')!r} has no inner steps; expected a learner "
                "that adapts by inner steps, such as 'maml'"
            )
        return self._measured(
            lambda here, episode: [
                m for pair in learner.inner_metrics(here, episode) for m in pair
            ],
            state,
            split=split,
            step=step,
            episodes=range(first_episode, first_episode + n_episodes),
        )

    def _measured(
        self,
        measure: Callable[[MetaState, Episode], list[EpisodeMetrics]],
        state: MetaState,
        *,
        split: str,
        step: int,
        episodes: range,
    ) -> tuple[EpisodeMetrics, ...]:
        metrics = []
        with self._guarded(state):
            here = self._on_device(state)
            for index in episodes:
                episode = self._drawn(split=split, step=step, index=index)
                try:
                    metrics += measure(here, episode)
                except NumericsError as error:
                    raise NumericsError(f"{split} step={step} episode={index}: {error}") from error
        return tuple(metrics)

    def answer(
        self, state: MetaState, *, split: str, step: int, index: int
    ) -> tuple[Episode, EpisodeAnswer]:
        """Evaluate one episode as ``evaluate`` does; return the episode, its outputs and metrics.

        Raises:
            NumericsError: a loss is not finite.
            ImpureError: as in ``evaluate``.
        """
        with self._guarded(state):
            here = self._on_device(state)
            episode = self._drawn(split=split, step=step, index=index)
            if isinstance(self.learner, EpisodicLearner):
                return episode, self.learner.answer(here, episode)
            metrics = self.learner.evaluate(here, episode)
            episode = self._drawn(split=split, step=step, index=index)  # seeds generators again
            inputs = episode.query.inputs
            outputs = self.learner.predict(here, episode.support, inputs, episode.n_way)
            return episode, EpisodeAnswer(outputs, metrics)

    @contextmanager
    def _guarded(self, state: MetaState) -> Iterator[None]:
        """After the block, restore global state, and check ``state`` and the modules' buffers.

        Raises:
            ImpureError: ``state`` or a buffer was changed.
        """
        before, found = checksum(state), self.hidden.capture(generators=False)
        try:
            with kept_as_it_is(self.device):
                yield
        finally:
            changed = [change.name for change in self.hidden.changes(found)]
            if changed:
                self.hidden.restore(found)
        if changed:
            raise ImpureError(
                f"model {self.spec.model.get('name')!r} changes {changed[0]} in its forward pass; "
                "in a fleet no change reaches the other workers, but for batch norm's statistics: "
                "compute it from the parameters, or train from a script with MetaLearner"
            )
        if checksum(state) != before:
            raise ImpureError(
                f"learner {self.spec.learner.get('name')!r} or its model wrote to the state it was "
                "given, which other episodes start from; copy tensors before changing them, as in "
                "value.clone() or value + 1, and change no .data"
            )

    def _drawn(self, *, split: str, step: int, index: int) -> Episode:
        """Draw an episode, unless the result is no longer needed."""
        stop_if_unwanted()
        episode = self._episode_on_device(self.sample(split=split, step=step, index=index))
        seed_generators(CounterRng(self.spec.seed, f"{split}/glob", step, index), self.device)
        return episode

    def _on_device(self, state: MetaState) -> MetaState:
        return MetaState(_move(state.params, self.device), _move(state.buffers, self.device))

    def _episode_on_device(self, episode: Episode) -> Episode:
        if self.device == "cpu":
            return episode
        support, query = (
            ExampleSet(_move(part.inputs, self.device), part.targets.to(self.device))
            for part in (episode.support, episode.query)
        )
        return replace(episode, support=support, query=query)


def _move(tensors: Mapping[str, Tensor], device: str) -> Params:
    return {name: tensor.to(torch.device(device)) for name, tensor in tensors.items()}
