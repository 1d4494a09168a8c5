"""How many episodes make a job of a run: given, recorded, or measured now."""

from collections.abc import Callable

from contracts.settings import Settings
from db.records import RunRecord
from metafleet.device import resolve_device
from orchestrator.calibration import Calibration
from orchestrator.calibrator import STREAM, measure
from orchestrator.config import ExperimentConfig
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
    plain = config.model_copy(update={"engine": relaxed})
    with open_scratch(
        *(settings, plain, run), stream=STREAM, in_process=False, notify=notify, check=check
    ) as dispatcher:
        speed = measure(dispatcher, request, device=config.engine.device)
    return Calibration.of(request.n_episodes, [speed])


def calibrate_here(
    config: ExperimentConfig, request: StepRequest, dispatcher: Dispatcher
) -> Calibration:
    """Measure this process."""
    speed = measure(dispatcher, request, device=resolve_device(config.engine.device))
    return Calibration.of(request.n_episodes, [speed])
