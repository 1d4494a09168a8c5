"""Tries ways to execute episodes when a run begins, and chooses one."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from metafleet.episode import META_TRAIN
from metafleet.errors import ConfigError, FleetError
from metafleet.execution.strategy import LARGEST_CHUNK, Strategy, StrategyName
from metafleet.orchestrator.autotune.calibration import Calibration, ClassSpeed, Trial
from metafleet.orchestrator.autotune.calibrator import STREAM
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.params import MetaState
from metafleet.workload import Workload

Measure = Callable[[StepRequest, int | None], tuple[ClassSpeed, ...]]
"""Measures a request in jobs of a given size, or chooses the size; one speed per class."""

_COMPILING_S: Final = 10.0
_OPERATION_S: Final = 0.06
"""Compile time per operation on about one idle core: 20 s for 370 operations."""

_SHARE: Final = 0.25
"""Maximum compile time as a share of the run's time without compilation."""


class Trials:
    """Measures the settings left at "auto", and chooses their values.

    Each way to execute episodes that is measured is a trial. The execution ``constant_memory`` is
    never tried for "auto", because it saves memory but no time.

    Args:
        config: the experiment.
        workload: the experiment's workload with the execution "autograd".
        state: the state from which training begins.
        n_steps: number of outer steps that remain.
        notify: receives a notice about each skipped execution, with the reason.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        workload: Workload,
        state: MetaState,
        *,
        n_steps: int,
        notify: Callable[[str], None],
    ) -> None:
        self._config, self._workload, self._state = config, workload, state
        self._n_steps, self._notify = n_steps, notify
        self._meta_batch_size = config.outer.meta_batch_size
        size = config.engine.episodes_per_job
        self._given_size = None if size == "auto" else size

    def request(self, name: StrategyName, size: int) -> StepRequest:
        """Return a request for the first outer step with the execution ``name``.

        The request has the episodes of the run's first outer step, which the run will compute
        anyway. If they cause an error here (for example because a loss is not finite), the run
        would therefore fail with the same error.
        """
        strategy = Strategy(name, self._config.engine.precision)
        if strategy.is_mapped:
            strategy = replace(strategy, chunk=min(size, self._meta_batch_size, LARGEST_CHUNK))
        return StepRequest(
            stream=STREAM,
            step=0,
            kind="gradient",
            split=META_TRAIN,
            episode_step=1,
            n_episodes=self._meta_batch_size,
            spec=replace(self._workload.spec, execution=strategy),
            state=self._state,
        )

    def run(self, measure: Measure) -> Calibration:
        """Measure the settings left at "auto"; return the measurements and the chosen values.

        Raises:
            NumericsError: a loss or gradient is not finite.
            FleetError: the fleet cannot compute the jobs.
        """
        asked = self._config.engine.execution
        if asked in ("autograd", "constant_memory"):
            return self._only_size(asked, measure)
        plain = self._try_one_by_one(measure)
        if asked != "auto":
            forced = self._try_mapped(asked, plain.processes, measure)
            return replace(
                Calibration.choose(self._meta_batch_size, [forced], n_steps=self._n_steps),
                execution="",
                trials=(),
            )
        tried = [plain]
        if self._can_be_mapped():
            tried += self._try("vmap", plain.processes, measure)
            if self._pays_to_compile(tried):
                tried += self._try("compiled", plain.processes, measure)
        return Calibration.choose(self._meta_batch_size, tried, n_steps=self._n_steps)

    def _only_size(self, name: StrategyName, measure: Measure) -> Calibration:
        return Calibration.of(self._meta_batch_size, measure(self.request(name, 0), None))

    def _try_one_by_one(self, measure: Measure) -> Trial:
        request = self.request("autograd", 0)
        classes = measure(request, self._given_size)
        size = self._given_size
        if size is None:
            size = Calibration.of(self._meta_batch_size, classes).episodes_per_job
        return Trial("autograd", size, classes)

    def _try_mapped(self, name: StrategyName, processes: int, measure: Measure) -> Trial:
        """Measure jobs of the largest size that leaves a job for every process."""
        size = self._given_size
        if size is None:
            size = math.ceil(self._meta_batch_size / min(processes, self._meta_batch_size))
            size = min(size, LARGEST_CHUNK)
        return Trial(name, size, measure(self.request(name, size), size))

    def _try(self, name: StrategyName, processes: int, measure: Measure) -> list[Trial]:
        try:
            return [self._try_mapped(name, processes, measure)]
        except (ConfigError, FleetError) as error:
            self._notify(f"execution {name!r} is left out: {error}")
            return []

    def _can_be_mapped(self) -> bool:
        strategy = Strategy("vmap", self._config.engine.precision)
        try:
            self._workload.executed_by(strategy).check_execution()
        except ConfigError as error:
            self._notify(f"only 'autograd' is measured: {error}")
            return False
        return True

    def _pays_to_compile(self, tried: list[Trial]) -> bool:
        """Return whether compiling would take only a small share of the whole run's time.

        Also return False if computing several episodes at once (mapping) is not faster than
        computing one episode at a time. Large operations then take most of the time, and compiling
        does not make large operations faster.
        """
        fastest = min(tried, key=lambda trial: trial.step_s(self._meta_batch_size))
        budget_s = _SHARE * self._n_steps * fastest.step_s(self._meta_batch_size)
        if fastest.execution != "vmap" or budget_s < _COMPILING_S:
            return False
        try:
            operations = self._workload.count_operations(min(self._meta_batch_size, LARGEST_CHUNK))
        except ConfigError as error:
            self._notify(f"execution 'compiled' is left out: {error}")
            return False
        return _COMPILING_S + _OPERATION_S * operations < budget_s
