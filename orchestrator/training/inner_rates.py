"""Records the learned step sizes of inner steps during training."""

from metafleet.db.records import InnerRatesRecord
from metafleet.learners.base import Learner
from metafleet.learners.gradient_steps import GradientSteps
from metafleet.orchestrator.recording.recorder import Recorder
from metafleet.orchestrator.training.checkpoint import Checkpoint


class InnerRates:
    """Records the step sizes that a learner has learned. Other learners get no rows.

    Args:
        learner: the run's learner.
        recorder: writes rows.
    """

    def __init__(self, learner: Learner, recorder: Recorder) -> None:
        self._learner, self._recorder = learner, recorder
        self._last_step = -1

    def record(self, reached: Checkpoint) -> None:
        """Record the step sizes of a state, unless those of its outer step were recorded last."""
        step = reached.progress.step
        if not isinstance(self._learner, GradientSteps) or step == self._last_step:
            return
        self._last_step = step
        if rates := self._learner.inner_rates(reached.state.params):
            flat = tuple(rate for of_layer in rates.values() for rate in of_layer)
            self._recorder.record_inner_rates(
                InnerRatesRecord(step=step, layers=tuple(rates), rates=flat)
            )
