"""How many episodes make a job of a run: given, recorded, or measured now."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from contracts.connections import connect, redis_errors, require_broker_url
from contracts.keys import queue_of
from contracts.presence import list_alive
from contracts.settings import Settings
from db.records import RunRecord
from metafleet.device import resolve_device
from orchestrator.calibration import Calibration
from orchestrator.calibrator import STREAM, measure
from orchestrator.config import ExperimentConfig
from orchestrator.engine.lanes import devices_of
from orchestrator.engine.step import Dispatcher, StepRequest
from orchestrator.scratch import open_scratch


def settled(config: ExperimentConfig, run: RunRecord) -> ExperimentConfig:
    """Put the number that was recorded with the run in place of "auto", if there is one yet."""
    if config.engine.episodes_per_job != "auto" or run.calibration is None:
        return config
    return config.with_episodes_per_job(Calibration.from_json(run.calibration).episodes_per_job)


def calibrate_fleet(
    settings: Settings,
    config: ExperimentConfig,
    run: str,
    request: StepRequest,
    *,
    notify: Callable[[str], None],
    check: Callable[[], None],
) -> Calibration:
    """Measure the fleet's workers, under a name of its own and on no account of the run.

    Each class of devices is measured by itself: those that are there when it begins.

    Args:
        settings: where broker and data are.
        config: the experiment.
        run: the run's uid.
        request: what to measure.
        notify: told what a person should know.
        check: called while something is waited for; raises when the run is to be left alone.
    """
    relaxed = config.engine.model_copy(
        update={"numerics": "relaxed", "policy": "strict", "reduce_fan_in": 0}
    )  # nothing is made of what is computed

    def scratch(device: str) -> AbstractContextManager[Dispatcher]:
        engine = relaxed.model_copy(update={"device": device})
        plain = config.model_copy(update={"engine": engine})
        return open_scratch(
            *(settings, plain, run), stream=STREAM, in_process=False, notify=notify, check=check
        )

    devices = devices_of(config.engine.device)
    if len(devices) > 1:
        with scratch(config.engine.device) as dispatcher:
            dispatcher.run_step(replace(request, n_episodes=1))  # waits until anybody is there
        devices = _staffed(settings, devices)
    speeds = []
    for device in devices:
        with scratch(device) as dispatcher:
            speeds.append(measure(dispatcher, request, device=device))
    return Calibration.of(request.n_episodes, speeds)


def _staffed(settings: Settings, devices: Sequence[str]) -> tuple[str, ...]:
    """Choose the classes that have workers; all of them, if the last worker has just left."""
    url = require_broker_url(settings)
    with redis_errors(url), connect(url) as client:
        return tuple(d for d in devices if list_alive(client, queue_of(d))) or tuple(devices)


def calibrate_here(
    config: ExperimentConfig, request: StepRequest, dispatcher: Dispatcher
) -> Calibration:
    """Measure this process."""
    speed = measure(dispatcher, request, device=resolve_device(config.engine.own_device))
    return Calibration.of(request.n_episodes, [speed])
