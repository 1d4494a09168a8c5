"""Prepares a run's next step: measures settings left at "auto", and compiles programs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metafleet.orchestrator.autotune.calibration import Calibration
from metafleet.orchestrator.autotune.trials import Trials
from metafleet.orchestrator.autotune.warm_up import steps_to_compile, warm_up_fleet, warm_up_here
from metafleet.orchestrator.autotune.work_size import calibrate_fleet, calibrate_here
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.step import Dispatcher
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.training.checkpoint import Checkpoint
from metafleet.workload import Workload, WorkloadSpec

_MEASURABLE = ("episodes_per_job", "execution")


@dataclass(frozen=True, slots=True)
class Preparation:
    """Prepares one run: measures its settings left at "auto", and compiles its programs.

    Attributes:
        context: context of the run.
        dispatcher: dispatcher of the run.
    """

    context: RunContext
    dispatcher: Dispatcher

    def settle(
        self,
        config: ExperimentConfig,
        workload: Workload,
        start: Checkpoint,
        recorder: Recorder,
        known: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any] | None:
        """Choose and record the values of settings left at "auto"; return the recorded calibration.

        A calibration consists of measurements and of the values chosen from them. Return None if no
        setting is left at "auto".

        Race prevented: another process takes over the run while this process measures. This process
        therefore uses its calibration only after writing it to the run's row. The write fails if
        the run has a new owner. If the row has a calibration, the new owner uses that calibration.
        If the row has none, the run has not begun any step, so the new owner can measure again.

        Args:
            config: configuration of the run. Values that were chosen and recorded earlier have
                already replaced "auto" in it.
            workload: workload of the run.
            start: checkpoint from which the run continues.
            recorder: recorder of the run.
            known: the calibration in the run's checkpoint; None if there is none. A known
                calibration is recorded again, and nothing is measured.
        """
        open_keys = [key for key in _MEASURABLE if getattr(config.engine, key) == "auto"]
        if not open_keys:
            return None
        recorded = recorder.keep_calibration(
            known or self._measure(config, workload, start, open_keys).to_json()
        )
        kept = Calibration.from_json(recorded)
        self.dispatcher.set_episodes_per_job(kept.episodes_per_job)
        self.context.notify(f"episodes: {kept}")
        if kept.reason:
            self.context.notify(f"execution: {kept.reason}")
        return recorded

    def _measure(
        self,
        config: ExperimentConfig,
        workload: Workload,
        start: Checkpoint,
        open_keys: Sequence[str],
    ) -> Calibration:
        named = " and ".join(f"engine.{key}='auto'" for key in open_keys)
        self.context.notify(f"measuring how long an episode takes ({named})")
        trials = Trials(
            config,
            workload,
            start.state,
            n_steps=config.outer.steps - start.progress.step,
            notify=self.context.notify,
        )
        if self.context.in_process:
            return calibrate_here(config, self.dispatcher, trials=trials)
        return calibrate_fleet(self.context, config, trials=trials)

    def warm_up(
        self, config: ExperimentConfig, workload: Workload, start: Checkpoint, spec: WorkloadSpec
    ) -> None:
        """Compile the programs that the run needs, if its execution is compiled."""
        if not spec.execution.is_compiled:
            return
        steps = steps_to_compile(
            workload.learner, first=start.progress.step + 1, last=config.outer.steps
        )
        programs = "a program" if len(steps) == 1 else f"{len(steps)} programs"
        self.context.notify(
            f"compiling {programs} where there is none yet: about a minute each, once for each "
            "machine (engine.execution='compiled')"
        )
        began_s = time.monotonic()
        if self.context.in_process:
            warm_up_here(self.dispatcher, spec, start.state, steps=steps)
        else:
            warm_up_fleet(self.context, config, start.state, spec=spec, steps=steps)
        self.context.notify(f"compiled: ready after {time.monotonic() - began_s:.1f} s")
