"""Determines a run's execution and job size: configured, recorded, or measured now."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import cast

from metafleet.contracts.connections import connect, redis_errors, require_broker_url
from metafleet.contracts.device import resolve_device
from metafleet.contracts.keys import queue_of
from metafleet.contracts.presence import list_alive
from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.execution.strategy import StrategyName
from metafleet.orchestrator.autotune.calibration import Calibration, ClassSpeed
from metafleet.orchestrator.autotune.calibrator import STREAM, measure
from metafleet.orchestrator.autotune.scratch import open_scratch
from metafleet.orchestrator.autotune.trials import Trials
from metafleet.orchestrator.autotune.warm_up import LONGEST_COMPILING_S
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.device_queues import devices_of
from metafleet.orchestrator.engine.incompatible_workers import find_mismatch
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.step import Dispatcher, StepRequest


def settled(config: ExperimentConfig, run: RunRecord) -> ExperimentConfig:
    """Replace "auto" by the values recorded with the run, if there are any."""
    if run.calibration is None:
        return config
    return settled_by(config, Calibration.from_json(run.calibration))


def settled_by(config: ExperimentConfig, chosen: Calibration) -> ExperimentConfig:
    """Replace "auto" by the chosen values."""
    if config.engine.episodes_per_job == "auto":
        config = config.with_episodes_per_job(chosen.episodes_per_job)
    if config.engine.execution == "auto" and chosen.execution:
        config = config.with_execution(cast(StrategyName, chosen.execution))
    return config


def calibrate_fleet(
    context: RunContext, config: ExperimentConfig, *, trials: Trials
) -> Calibration:
    """Measure the fleet's workers, and return the measurements with the chosen values.

    This uses a separate run name and records no rows. It measures each device class that has
    workers at the start, one class at a time.

    Args:
        context: context of the run.
        config: the experiment.
        trials: decides which executions to measure.
    """
    relaxed = config.engine.model_copy(
        update={
            **{"numerics": "relaxed", "policy": "strict", "reduce_fan_in": 0},
            "job_deadline_s": max(config.engine.job_deadline_s, LONGEST_COMPILING_S),
            "step_deadline_s": max(config.engine.step_deadline_s, LONGEST_COMPILING_S),
        }
    )  # the results are not used

    def scratch(device: str) -> AbstractContextManager[Dispatcher]:
        engine = relaxed.model_copy(update={"device": device})
        plain = config.model_copy(update={"engine": engine})
        return open_scratch(context, plain, stream=STREAM)

    devices = devices_of(config.engine.device)
    if len(devices) > 1:
        with scratch(config.engine.device) as dispatcher:
            waiting = replace(trials.request("autograd", 0), n_episodes=1)
            dispatcher.run_step(waiting)  # wait until there is a worker
        devices = _staffed(context.settings, devices)

    def measured(request: StepRequest, size: int | None) -> tuple[ClassSpeed, ...]:
        speeds = []
        for device in devices:
            with scratch(device) as dispatcher:
                speeds.append(measure(dispatcher, request, device=device, size=size))
        return tuple(speeds)

    return trials.run(measured)


def _staffed(settings: Settings, devices: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that have workers, or all if the last worker has just left."""
    url = require_broker_url(settings)
    with redis_errors(url), connect(url) as client:
        staffed = [
            device
            for device in devices
            if any(
                not find_mismatch(worker, settings.signing_key)
                for worker in list_alive(client, queue_of(device))
            )
        ]
        return tuple(staffed or devices)


def calibrate_here(
    config: ExperimentConfig, dispatcher: Dispatcher, *, trials: Trials
) -> Calibration:
    """Measure this process."""
    device = resolve_device(config.engine.own_device)
    return trials.run(
        lambda request, size: (measure(dispatcher, request, device=device, size=size),)
    )
