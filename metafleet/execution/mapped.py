"""Compute a chunk of episodes at once: ``torch.func.vmap`` over ``EpisodicLearner.compute``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metafleet.cancellation import stop_if_unwanted
from metafleet.episode import Episode
from metafleet.errors import ConfigError, NumericsError
from metafleet.execution.chunk import Chunk, chunks_of, stack_episodes, targets_of, unpack_set
from metafleet.execution.one_by_one import AutogradExecution, add_to
from metafleet.execution.precision import in_precision
from metafleet.execution.pure import PureFunction
from metafleet.execution.strategy import Precision, Strategy
from metafleet.learners.average_precision import mean_average_precision
from metafleet.learners.base import EpisodeMetrics, Learner, MetaGradient
from metafleet.learners.context import EpisodeContext, by_functions
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.objective import is_counted
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.notes import Notes
from metafleet.models.tracing import mapping
from metafleet.options import name_of
from metafleet.params import MetaState, Params
from metafleet.purity.hidden_state import HiddenState


class ChunkSums(NamedTuple):
    """The results of a chunk.

    Attributes:
        grads, buffers: sums over the episodes.
        losses: query losses, [episodes].
        outputs: outputs for the query sets, [episodes, n, ...].
        is_finite: a scalar; false if any gradient, loss or support loss is not finite.
    """

    grads: Params
    buffers: Params
    losses: Tensor
    outputs: Tensor
    is_finite: Tensor


@dataclass(frozen=True, slots=True)
class ChunkComputation:
    """The computation of a chunk, as a pure function of tensors.

    Attributes:
        learner: the learner whose episodes are computed.
        n_way: number of classes of the episodes.
        variant: what the learner's ``variant`` returned for the outer step of the episodes.
        precision: precision of matrix products and convolutions.
        device: torch device.
    """

    learner: EpisodicLearner[Any]
    n_way: int
    variant: str
    precision: Precision
    device: str

    def __call__(
        self, state: MetaState, schedule: Mapping[str, Tensor], chunk: Chunk, weights: Tensor | None
    ) -> ChunkSums:
        """Compute a chunk; an episode whose entry in ``weights`` [episodes] is 0 is padding."""

        def one(support: Params, query: Params, drawn: Params) -> tuple[Any, ...]:
            return self._episode(state, schedule, Chunk(support, query, drawn))

        with torch.no_grad(), mapping(), in_precision(self.precision, self.device):
            grads, buffers, loss, outputs, support_losses = torch.func.vmap(one)(*chunk)
        if weights is not None:
            grads, buffers = (_fill(values, weights) for values in (grads, buffers))
        sums = {name: value.sum(0) for name, value in grads.items()}
        is_finite = [torch.isfinite(value).all() for value in (loss, *support_losses)]
        is_finite += [torch.isfinite(value).all() for value in sums.values()]
        return ChunkSums(
            sums,
            {name: value.sum(0) for name, value in buffers.items()},
            loss,
            outputs,
            torch.stack(is_finite).all(),
        )

    def _episode(
        self, state: MetaState, schedule: Mapping[str, Tensor], own: Chunk
    ) -> tuple[Any, ...]:
        notes = Notes()
        context = EpisodeContext(
            n_way=self.n_way,
            is_training=True,
            norm=EpisodeNorm(
                self.learner.batch_norm,
                state.buffers,
                is_training=True,
                notes=notes,
                is_traced=True,
            ),
            notes=notes,
            variant=self.variant,
            schedule=schedule,
            drawn=own.drawn,
            differentiate=by_functions,
            is_traced=True,
        )
        episode = Episode(unpack_set(own.support), unpack_set(own.query), self.n_way)
        outcome = self.learner.compute(state.params, episode, context)
        query = outcome.query
        return query.grads, outcome.statistics, query.loss, query.outputs, outcome.support_losses


class MappedExecution:
    """Computes chunks of episodes. If a chunk fails, its episodes are recomputed one by one.

    Raises:
        ConfigError: the learner cannot be mapped.
    """

    def __init__(self, strategy: Strategy, learner: Learner, *, device: str) -> None:
        if not isinstance(learner, EpisodicLearner) or not learner.is_traceable:
            raise ConfigError(
                f"execution={strategy.name!r} but learner {name_of(type(learner))!r} cannot be "
                "mapped over episodes; choose 'autograd'"
            )
        self.strategy = strategy
        self._learner, self._device = learner, device
        hidden = HiddenState(learner, devices=[device])
        self._as_pure = PureFunction(hidden, strategy.name)
        plain = Strategy("autograd", strategy.precision)
        self._plain = AutogradExecution(plain, learner, device=device)

    def gradient(
        self, state: MetaState, episodes: Iterable[Episode], *, first: int = 0
    ) -> MetaGradient:
        """Sum the meta-gradients of ``episodes``; see ``Execution``."""
        grads: Params = {}
        buffers: Params = {}
        metrics: list[EpisodeMetrics] = []
        for chunk in chunks_of(episodes, self.strategy.chunk):
            stop_if_unwanted()
            gradient = self._chunk_gradient(state, chunk, first + len(metrics))
            add_to(grads, gradient.grads)
            add_to(buffers, gradient.buffers)
            metrics.extend(gradient.metrics)
        return MetaGradient(grads, buffers, tuple(metrics))

    def _chunk_gradient(
        self, state: MetaState, episodes: Sequence[Episode], first: int
    ) -> MetaGradient:
        for episode in episodes:
            self._learner.check_support(episode.support, episode.n_way)
        chunk = stack_episodes(self._learner, episodes)
        schedule = self._learner.schedule_for(episodes[0])
        sums = self._compute(self._computation(episodes[0]), state, schedule, chunk)
        if not bool(sums.is_finite):
            self._name_failure(state, episodes, first)
        metrics = _judge(sums, targets_of(chunk), is_regression=episodes[0].is_regression)
        return MetaGradient(sums.grads, sums.buffers, metrics)

    def _computation(self, episode: Episode) -> ChunkComputation:
        return ChunkComputation(
            self._learner,
            episode.n_way,
            self._learner.variant(episode.step),
            precision=self.strategy.precision,
            device=self._device,
        )

    def _compute(
        self,
        computation: ChunkComputation,
        state: MetaState,
        schedule: Mapping[str, Tensor],
        chunk: Chunk,
    ) -> ChunkSums:
        return self._as_pure(lambda: computation(state, schedule, chunk, None), _is_same)

    def _name_failure(self, state: MetaState, episodes: Sequence[Episode], first: int) -> None:
        """Recompute the episodes with autograd, to find the value that is not finite.

        Raises:
            NumericsError: always; the message names the value and the episode.
        """
        self._plain.gradient(state, episodes, first=first)
        raise NumericsError(
            f"episode={first} to {first + len(episodes) - 1}: a loss or gradient is not finite by "
            f"{self.strategy.name!r} and is by 'autograd', so it is about to overflow; "
            "lower the learning rates or check the inputs"
        )


def _is_same(one: ChunkSums, other: ChunkSums) -> bool:
    """Return whether the gradients of two chunks are equal up to rounding."""
    return torch.allclose(one.losses, other.losses, equal_nan=True) and all(
        torch.allclose(value, other.grads[name], rtol=1e-3, atol=1e-6, equal_nan=True)
        for name, value in one.grads.items()
    )


def _fill(values: Params, weights: Tensor) -> Params:
    """Replace the values of padding episodes by zeros, even if they are not finite."""
    return {
        name: torch.where(weights.view(-1, *[1] * (value.dim() - 1)) > 0, value, 0.0)
        for name, value in values.items()
    }


def _judge(sums: ChunkSums, targets: Tensor, *, is_regression: bool) -> tuple[EpisodeMetrics, ...]:
    """Return the loss and accuracy of each of the first ``len(targets)`` episodes."""
    losses = sums.losses.tolist()[: len(targets)]
    if is_regression:
        return tuple(EpisodeMetrics(loss, None) for loss in losses)
    if targets.dim() == 3:  # several labels an item
        scores = sums.outputs[: len(targets)]
        found = map(mean_average_precision, scores.unbind(), targets.unbind())
        return tuple(EpisodeMetrics(loss, it) for loss, it in zip(losses, found, strict=True))
    right = (sums.outputs[: len(targets)].argmax(dim=2) == targets).sum(dim=1).tolist()
    n_counted = is_counted(targets, sums.outputs.shape[2]).sum(dim=1).tolist()
    return tuple(
        EpisodeMetrics(loss, k / max(n, 1))
        for loss, k, n in zip(losses, right, n_counted, strict=True)
    )
