"""The engine without a fleet: computes all shards in this process, one after another."""

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
from metafleet.orchestrator.engine.sending import Sending
from metafleet.orchestrator.engine.step import (
    MEASURED_ONLY,
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
"""The result of a shard: sums shaped like a state, and the metrics of its episodes."""


class LocalDispatcher:
    """Computes steps in this process, with the same shards and sums as the fleet.

    Args:
        episodes_per_job: episodes in a shard, >= 1.
        data_dir: the folder of the data.
        device: the compute device.
        allowed_packages: packages of the user that may be imported.
        check: called between inner steps. It raises an error if the run must stop.
        wire_dtype: type to which the fleet would convert sums and states for sending.
        programs_dir: the folder of compiled programs.
        compiles: whether compiled programs will compute some gradients. If so, the numerics
            fingerprint includes the compiler.
        is_strict: whether to compute one shard of the first training step twice, and compare the
            bits.
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
        """Numerics fingerprint of this process for the gradients that it computed last."""
        return fingerprint_text(self._torch_device, compiles=self._compiles, code=self._code)

    @property
    def processes_alive(self) -> int:
        """Always 1, for this process."""
        return 1

    def set_episodes_per_job(self, episodes_per_job: int) -> None:
        """Set the number of episodes per job from now on."""
        self._episodes_per_job = episodes_per_job

    def begin(self, request: StepRequest) -> Ticket:
        """Store a step, which ``finish`` will compute; see ``Dispatcher``."""
        ticket = Ticket(next(self._numbers))
        self._begun[ticket] = request
        return ticket

    def is_ready(self, ticket: Ticket) -> bool:
        """Return True for every begun step: there are no workers to wait for."""
        return ticket in self._begun

    def finish(self, ticket: Ticket) -> StepOutcome:
        """Compute a begun step; see ``Dispatcher``."""
        return self.run_step(self._begun.pop(ticket))

    def drop(self, ticket: Ticket) -> None:
        """Forget a step."""
        self._begun.pop(ticket, None)

    def run_step(self, request: StepRequest) -> StepOutcome:
        """Compute one step; see ``Dispatcher``."""
        shards = cut(request, self._episodes_per_job)
        request = replace(request, state=self._as_sent(request.state))
        reducer = TreeReducer(len(shards)) if request.kind == "gradient" else None
        metrics: list[EpisodeMetrics] = []
        jobs: list[JobFacts] = []
        for shard in shards:
            self._check()
            sending = Sending("", time.time_ns() // 1_000)
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
                    compute_s=(compute_s := sending.age_s),
                    payload_bytes=0,
                    episodes=shard.n_episodes,
                    sent_us=sending.sent_us,
                    round_trip_s=compute_s,
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
        """Do nothing: there are no repeated attempts here."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _checked(self) -> bool:
        """Never cancel the learner between its inner steps, but let ``check`` raise there."""
        self._check()
        return False

    def _look_again(self, request: StepRequest, shard: Shard, first: Sums) -> None:
        """Compute a shard again, with a new learner if that is cheap, and compare."""
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
        if request.kind in MEASURED_ONLY:
            judge = workload.evaluate if request.kind == "evaluate" else workload.inner_metrics
            return {}, judge(
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
        """Round as a transfer would, so that the bits equal those of a fleet."""
        tensors = flatten_state(state)
        if self._wire_dtype == "float32":
            return unflatten_state(tensors)
        return unflatten_state(widen(narrow(tensors, self._wire_dtype), schema_of(tensors)))

    def _workload(self, spec: WorkloadSpec) -> Workload:
        """Build each workload once. A run has a few: its own and those of its baselines."""
        for workload in self._workloads:
            if workload.spec == spec:
                return workload
        self._workloads.append(self._build(spec))
        self._code |= describe_code(spec)
        return self._workloads[-1]


def _bits(sums: Sums) -> str:
    tensors, metrics = sums
    return hashlib.sha256(f"{digest(tensors)} {metrics!r}".encode()).hexdigest()
