"""A chunk of episodes as machine code, made once for each computation and machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.execution.chunk import Chunk
from metafleet.execution.machine_code import MachineCode, Program
from metafleet.execution.mapped import ChunkComputation, ChunkSums, MappedExecution
from metafleet.execution.strategy import Strategy
from metafleet.learners.base import Learner
from metafleet.learners.objective import apart
from metafleet.params import MetaState, Params
from metafleet.tracing import tracing

_Layout = tuple[tuple[str, ...], ...]
"""Names of the tensors of each part of the input, in order."""


class CompiledExecution(MappedExecution):
    """Runs machine code for chunks of one size; a shorter chunk is filled up with episodes again.

    Args:
        strategy: how; its chunk is the size, 0 for what comes first.
        learner: whose episodes.
        device: where.
        cache_dir: where machine code is kept for other processes, and for other days; must be
            given where something is computed.

    Raises:
        ConfigError: the learner cannot be mapped.
    """

    def __init__(
        self, strategy: Strategy, learner: Learner, *, device: str, cache_dir: Path | None
    ) -> None:
        super().__init__(strategy, learner, device=device)
        self._machine_code = None if cache_dir is None else MachineCode(cache_dir, device)
        self._programs: dict[tuple[object, ...], Program] = {}

    def _compute(
        self,
        computation: ChunkComputation,
        state: MetaState,
        schedule: Mapping[str, Tensor],
        chunk: Chunk,
    ) -> ChunkSums:
        parts, weights = self._filled(chunk)
        groups = (state.params, state.buffers, schedule, *parts)
        inputs = [value.contiguous() for group in groups for value in group.values()]
        inputs.append(weights)
        key = (
            *(computation.n_way, computation.variant),
            *((tuple(value.shape), value.dtype) for value in inputs),
        )
        program = self._programs.get(key)
        if program is None:
            layout = tuple(tuple(group) for group in groups)
            program = self._programs[key] = self._compile(computation, layout, inputs)
        outputs = program(inputs)
        return _unflatten(outputs, state)

    def _filled(self, chunk: Chunk) -> tuple[Chunk, Tensor]:
        """Fill a chunk up with its last episode, and tell which episodes count."""
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

        if self._machine_code is None:
            raise ConfigError(
                "execution='compiled' needs a folder for machine code; give one as cache_dir"
            )
        with tracing():
            return self._machine_code.program(flat, inputs)


def _repeat_last(part: Params, times: int) -> Params:
    return {
        name: torch.cat([value, value[-1:].expand(times, *value.shape[1:])])
        for name, value in part.items()
    }


def _unflatten(outputs: Sequence[Tensor], state: MetaState) -> ChunkSums:
    rest = iter(outputs)
    grads = apart({name: next(rest) for name in state.params})
    buffers = {name: next(rest) for name in state.buffers}
    return ChunkSums(grads, buffers, *rest)
