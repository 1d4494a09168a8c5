"""Execute a chunk of episodes as machine code, compiled once per computation and machine."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metafleet.episode import Episode
from metafleet.errors import ConfigError
from metafleet.execution.chunk import Chunk, stack_episodes
from metafleet.execution.compiler import trace
from metafleet.execution.mapped import ChunkComputation, ChunkSums, MappedExecution
from metafleet.execution.program_cache import Program, ProgramCache
from metafleet.execution.strategy import Strategy
from metafleet.learners.base import Learner
from metafleet.learners.objective import apart
from metafleet.params import MetaState, Params

_Layout = tuple[tuple[str, ...], ...]
"""Names of the tensors in each part of the input, in order."""


class CompiledExecution(MappedExecution):
    """Runs machine code for chunks of a fixed size.

    A shorter chunk is padded by repeating its last episode.

    Args:
        strategy: the strategy. Its ``chunk`` is the number of episodes in a chunk; 0 selects the
            size of the first chunk.
        learner: the learner whose episodes are executed.
        device: torch device.
        cache_dir: folder that stores machine code for later runs and other processes. Without such
            a folder, nothing can be computed.

    Raises:
        ConfigError: the learner cannot be mapped over episodes.
    """

    def __init__(
        self, strategy: Strategy, learner: Learner, *, device: str, cache_dir: Path | None
    ) -> None:
        super().__init__(strategy, learner, device=device)
        self._machine_code = None if cache_dir is None else ProgramCache(cache_dir, device)
        self._programs: dict[tuple[object, ...], Program] = {}

    def count_operations(self, state: MetaState, episodes: Sequence[Episode]) -> int:
        """Trace a program, without computing it, and return its number of operations.

        Raises:
            ConfigError: the program cannot be traced.
        """
        computation = self._computation(episodes[0])
        chunk = stack_episodes(self._learner, episodes)
        layout, inputs = self._inputs(state, self._learner.schedule_for(episodes[0]), chunk)
        return len(self._written_down(computation, layout, inputs).graph.nodes)

    def _compute(
        self,
        computation: ChunkComputation,
        state: MetaState,
        schedule: Mapping[str, Tensor],
        chunk: Chunk,
    ) -> ChunkSums:
        layout, inputs = self._inputs(state, schedule, chunk)
        key = (
            computation.n_way,
            computation.variant,
            layout,
            *((tuple(value.shape), value.dtype) for value in inputs),
        )
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = self._compile(computation, layout, inputs)
        outputs = program(inputs)
        return _unflatten(outputs, state)

    def _inputs(
        self, state: MetaState, schedule: Mapping[str, Tensor], chunk: Chunk
    ) -> tuple[_Layout, list[Tensor]]:
        parts, weights = self._filled(chunk)
        groups = (state.params, state.buffers, schedule, *parts)
        layout = tuple(tuple(sorted(group)) for group in groups)  # received states differ in order
        inputs = [
            group[name].contiguous()
            for group, names in zip(groups, layout, strict=True)
            for name in names
        ]
        return layout, [*inputs, weights]

    def _filled(self, chunk: Chunk) -> tuple[Chunk, Tensor]:
        """Pad a chunk with its last episode; also return weights, 1 for real episodes, else 0."""
        some = next(iter(chunk.query.values()))
        n, size = len(some), max(self.strategy.chunk, len(some))
        weights = torch.ones(size, device=some.device)
        if size == n:
            return chunk, weights
        weights[n:] = 0.0
        return Chunk(*(_repeat_last(part, size - n) for part in chunk)), weights

    def _compile(
        self, computation: ChunkComputation, layout: _Layout, inputs: Sequence[Tensor]
    ) -> Program:
        if self._machine_code is None:
            raise ConfigError(
                "execution='compiled' needs a folder for machine code; give one as cache_dir"
            )
        graph = self._written_down(computation, layout, inputs)
        return self._machine_code.program(graph, inputs)

    def _written_down(
        self, computation: ChunkComputation, layout: _Layout, inputs: Sequence[Tensor]
    ) -> Any:
        return self._as_pure(
            lambda: trace(_flat(computation, layout), inputs),
            lambda one, other: one.code == other.code,
        )


def _flat(computation: ChunkComputation, layout: _Layout) -> Callable[..., list[Tensor]]:
    """Return ``computation`` as a function of separate tensors that returns a list of tensors."""

    def flat(*values: Tensor) -> list[Tensor]:
        rest = iter(values)
        groups = [{name: next(rest) for name in names} for names in layout]
        params, buffers, schedule, *parts = groups
        sums = computation(MetaState(params, buffers), schedule, Chunk(*parts), next(rest))
        return [
            *(sums.grads[name] for name in params),
            *(sums.buffers[name] for name in buffers),
            *sums[2:],
        ]

    return flat


def _repeat_last(part: Params, times: int) -> Params:
    return {
        name: torch.cat([value, value[-1:].expand(times, *value.shape[1:])])
        for name, value in part.items()
    }


def _unflatten(outputs: Sequence[Tensor], state: MetaState) -> ChunkSums:
    rest = iter(outputs)
    grads = apart({name: next(rest) for name in sorted(state.params)})
    buffers = apart({name: next(rest) for name in sorted(state.buffers)})
    return ChunkSums(grads, buffers, *rest)
