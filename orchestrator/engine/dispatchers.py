"""Opens the engine of a run: the fleet or this process."""

from collections.abc import Callable

from metafleet.contracts.device import resolve_device
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.attempt_counts import Sink
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.local import LocalDispatcher
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.step import Dispatcher


def open_dispatcher(  # noqa: PLR0913 - the seams of a dispatcher
    context: RunContext,
    config: ExperimentConfig,
    *,
    next_epoch: Callable[[int], int],
    fingerprint: str = "",
    relaxed: bool = False,
    is_granted: bool = False,
    is_ours: Callable[[], bool] = lambda: False,
    sink: Sink | None = None,
) -> Dispatcher:
    """Open the engine that computes a run's steps: the fleet or this process.

    If ``engine.episodes_per_job`` is "auto" and its value is not chosen yet, each job has one
    episode until ``set_episodes_per_job`` is called.
    """
    settings, engine = context.settings, config.engine
    is_strict = engine.numerics == "strict" and not relaxed
    episodes_per_job = 1 if engine.episodes_per_job == "auto" else engine.episodes_per_job
    if context.in_process:
        next_epoch(0)
        return LocalDispatcher(
            episodes_per_job=episodes_per_job,
            data_dir=settings.data_dir,
            device=resolve_device(engine.own_device),
            allowed_packages=settings.allowed_packages,
            check=context.check,
            wire_dtype=engine.wire_dtype,
            programs_dir=settings.programs_dir,
            compiles=engine.execution == "compiled",
            is_strict=is_strict,
        )
    options = FleetOptions(
        episodes_per_job=episodes_per_job,
        device=engine.device,
        is_strict=is_strict,
        max_attempts=engine.max_attempts,
        step_deadline_s=engine.step_deadline_s,
        job_deadline_s=engine.job_deadline_s,
        min_fraction=engine.min_fraction if engine.policy == "partial" else 1.0,
        wire_dtype=engine.wire_dtype,
        reduce_fan_in=engine.reduce_fan_in,
    )
    return FleetDispatcher(
        settings,
        context.run,
        options=options,
        next_epoch=next_epoch,
        notify=context.notify,
        fingerprint=fingerprint,
        check=context.check,
        is_granted=is_granted,
        is_ours=is_ours,
        sink=sink,
    )
