"""The engine without a fleet: every shard in this process, one after the other."""

import functools
import hashlib
import itertools
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from metafleet.cancellation import cancellable
from metafleet.contracts.code_used import describe_code
from metafleet.contracts.codec import WireDtype, narrow, schema_of, widen
from metafleet.contracts.device import describe_device, prepare_process
from metafleet.contracts.fingerprint import fingerprint_text
from metafleet.learners.base import EpisodeMetrics
from metafleet.orchestrator.engine.computed import Computed, require_equal
from metafleet.orchestrator.engine.step import (
    TRAIN_STREAM,
    JobFacts,
    Shard,
    StepOutcome,
    StepRequest,
    Ticket,
    cut,
)
from metafleet.params import MetaState, Params, digest, flatten_state, unflatten_state
from metafleet.reduction import TreeReducer
from metafleet.workload import Workload, WorkloadSpec

Sums = tuple[Params, tuple[EpisodeMetrics, ...]]
"""What comes of a shard: sums shaped like a state, and its episodes' metrics."""


class LocalDispatcher:
    """Computes shards here, cut and summed just as the fleet does.

    Args:
        episodes_per_job: episodes in a shard, >= 1.
        data_dir: where the data are.
        device: what to compute on.
        allowed_packages: packages of the user that may be imported.
        check: called between inner steps; raises when the run is to be left alone.
        wire_dtype: how sums and states would travel.
        programs_dir: where compiled programs are kept.
        compiles: some gradients will be compiled, so the compiler is part of the fingerprint.
        is_strict: compute one shard of a training's first step twice, and compare the bits.
    """

    def __init__(  # noqa: PLR0913 - the seams of a dispatcher
        self,
        *,
        episodes_per_job: int,
        data_dir: Path,
        device: str,
        allowed_packages: tuple[str, ...] = (),
        check: Callable[[], None] = lambda: None,
        wire_dtype: WireDtype = "float32",
        programs_dir: Path | None = None,
        compiles: bool = False,
        is_strict: bool = False,
    ) -> None:
        self._is_second_look_due = is_strict
        prepare_process(device)
        self._check = check
        self._allowed_packages = allowed_packages
        self._build = functools.partial(
            Workload.build,
            data_dir=data_dir,
            device=device,
            allowed_packages=allowed_packages,
            cache_dir=programs_dir,
        )
        self._compiles = compiles
        self._code: dict[str, str] = {}
        self._workloads: list[Workload] = []
        self._numbers = itertools.count()
        self._begun: dict[Ticket, StepRequest] = {}
        self._episodes_per_job, self._wire_dtype = episodes_per_job, wire_dtype
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._torch_device, self._device = device, describe_device(device)

    @property
    def fingerprint(self) -> str:
        """Numerics fingerprint of this process, as it computed gradients last."""
        return fingerprint_text(self._torch_device, compiles=self._compiles, code=self._code)

    @property
    def processes_alive(self) -> int:
        """One: this process."""
        return 1

    def set_episodes_per_job(self, episodes_per_job: int) -> None:
        """Cut steps into jobs of so many episodes from now on."""
        self._episodes_per_job = episodes_per_job

    def begin(self, request: StepRequest) -> Ticket:
        """Note a step; see ``Dispatcher``. It is computed when it is finished."""
        ticket = Ticket(next(self._numbers))
        self._begun[ticket] = request
        return ticket

    def is_ready(self, ticket: Ticket) -> bool:
        """Tell that nobody else is waited for."""
        return ticket in self._begun

    def finish(self, ticket: Ticket) -> StepOutcome:
        """Work through a step; see ``Dispatcher``."""
        return self.run_step(self._begun.pop(ticket))

    def drop(self, ticket: Ticket) -> None:
        """Forget a step."""
        self._begun.pop(ticket, None)

    def run_step(self, request: StepRequest) -> StepOutcome:
        """Work through one step; see ``Dispatcher``."""
        shards = cut(request, self._episodes_per_job)
        request = replace(request, state=self._as_sent(request.state))
        reducer = TreeReducer(len(shards)) if request.kind == "gradient" else None
        metrics: list[EpisodeMetrics] = []
        jobs: list[JobFacts] = []
        for shard in shards:
            self._check()
            started_s = time.monotonic()
            with cancellable(self._checked):
                sums, shard_metrics = self._compute(request, shard, self._workload(request.spec))
                if self._is_second_look_due and request.stream == TRAIN_STREAM:
                    self._is_second_look_due = False
                    self._look_again(request, shard, (sums, shard_metrics))
            if reducer is not None:
                reducer.add(shard.index, sums)
            metrics.extend(shard_metrics)
            jobs.append(
                JobFacts(
                    shard=shard.index,
                    attempt=0,
                    worker=self._worker,
                    device=self._device,
                    queue_wait_s=0.0,
                    compute_s=time.monotonic() - started_s,
                    payload_bytes=0,
                    episodes=shard.n_episodes,
                )
            )
        return StepOutcome(
            sums=reducer.result() if reducer is not None else {},
            metrics=tuple(metrics),
            jobs=tuple(jobs),
            retries=0,
            workers_alive=1,
        )

    def settle(self) -> None:
        """Nothing is left: no attempt is made twice here."""

    def close(self) -> None:
        """Nothing to let go of."""

    def _checked(self) -> bool:
        """Answer the learner between its inner steps; what ``check`` raises goes through it."""
        self._check()
        return False

    def _look_again(self, request: StepRequest, shard: Shard, first: Sums) -> None:
        """Compute a shard again, by a new learner where that costs little, and compare."""
        workload = self._workload(request.spec)
        if not request.is_compiled:
            workload = Workload.bind(
                request.spec,
                workload.source,
                device=self._torch_device,
                allowed_packages=self._allowed_packages,
            )
        again = self._compute(request, shard, workload)
        seen, looked = (Computed(_bits(sums), self._worker) for sums in (first, again))
        require_equal(f"{request.stream} step {request.step}", seen, looked)

    def _compute(self, request: StepRequest, shard: Shard, workload: Workload) -> Sums:
        if request.kind == "gradient":
            self._compiles = request.is_compiled
        if request.kind == "evaluate":
            return {}, workload.evaluate(
                request.state,
                split=request.split,
                step=request.episode_step,
                first_episode=shard.first_episode,
                n_episodes=shard.n_episodes,
            )
        gradient = workload.gradient(
            request.state,
            split=request.split,
            step=request.episode_step,
            first_episode=shard.first_episode,
            n_episodes=shard.n_episodes,
        )
        sums = self._as_sent(MetaState(gradient.grads, gradient.buffers))
        return flatten_state(sums), gradient.metrics

    def _as_sent(self, state: MetaState) -> MetaState:
        """Round as the wire would, so that the bits are those of a fleet."""
        tensors = flatten_state(state)
        if self._wire_dtype == "float32":
            return unflatten_state(tensors)
        return unflatten_state(widen(narrow(tensors, self._wire_dtype), schema_of(tensors)))

    def _workload(self, spec: WorkloadSpec) -> Workload:
        """Build a workload once; a run has a few: its own, and its baselines'."""
        for workload in self._workloads:
            if workload.spec == spec:
                return workload
        self._workloads.append(self._build(spec))
        self._code |= describe_code(spec)
        return self._workloads[-1]


def _bits(sums: Sums) -> str:
    tensors, metrics = sums
    return hashlib.sha256(f"{digest(tensors)} {metrics!r}".encode()).hexdigest()
