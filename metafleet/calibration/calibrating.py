"""From validation episodes to what is kept of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from metafleet.calibration.calibration import Calibration, ShapeCalibration
from metafleet.calibration.conformal import coverage_thresholds
from metafleet.calibration.episode_logits import EpisodeDraw, EpisodeLogits, episode_logits
from metafleet.calibration.temperature import fit_temperature, probabilities
from metafleet.calibration.unknown import choose_rule
from metafleet.data.summary import Progress, no_progress
from metafleet.episode import META_VAL, EpisodeShape
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError
from metafleet.learners.base import Learner
from metafleet.learners.episodic import EpisodicLearner
from metafleet.params import MetaState

CALIBRATION_STEP: Final = 1
"""Of the addresses of calibration episodes: validations are of step 0."""
DEFAULT_EPISODES: Final = 400
EPISODES_OF_MANY: Final = 200
"""Of each shape, where there are many."""
USUAL_WAYS: Final = (2, 5, 10, 20)
USUAL_SHOTS: Final = (1, 5)
_MOST_SHOTS: Final = 64
"""Beyond this, more shots change little, and episodes take long."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Calibrates a learned state on episodes of a split.

    Attributes:
        learner, state: what is calibrated.
        source: where episodes come from.
        template: the run's own episodes of the split: what is not size is as there.
        seed: of the run.
        n_unknown: classes besides those of an episode, of which there are queries alone; None for
            as many as the episode has, as far as the split has them.
        n_episodes: of each shape.
        split: whose classes they are of.
    """

    learner: Learner
    state: MetaState
    source: EpisodeSource
    template: EpisodeShape
    seed: int
    n_unknown: int | None = None
    n_episodes: int = DEFAULT_EPISODES
    split: str = META_VAL

    def calibrate(
        self, wanted: Sequence[tuple[int, int]], progress: Progress = no_progress
    ) -> Calibration:
        """Calibrate for ways and shots.

        Args:
            wanted: (n_way, k_shot) of each; where the split cannot fill such episodes, the next
                smaller that it can.
            progress: told how far it is.

        Raises:
            ConfigError: the split can fill none.
            NumericsError: an output is not finite.
        """
        found = dict.fromkeys(shape for pair in wanted if (shape := self.fitting(*pair)))
        if not found:
            n_classes = self.source.n_classes(self.split)
            raise ConfigError(
                f"split {self.split!r} with {n_classes} classes cannot fill episodes for "
                "calibration; split the data so that it has 2 or more classes of 2 or more items"
            )
        shapes = (calibrated(self.logits(shape, progress=progress), self) for shape in found)
        return Calibration(self.split, tuple(shapes))

    def usual_shapes(self) -> list[tuple[int, int]]:
        """Return (n_way, k_shot) of support sets to expect, with those of the run's episodes."""
        ways = sorted({*USUAL_WAYS, self.template.n_way})
        shots = sorted({*USUAL_SHOTS, self.template.k_shot})
        return [(n_way, k_shot) for n_way in ways for k_shot in shots]

    def logits(
        self,
        shape: EpisodeShape,
        *,
        step: int = CALIBRATION_STEP,
        progress: Progress = no_progress,
    ) -> EpisodeLogits:
        """Compute the logits of episodes of a shape that the split can fill."""
        draw = EpisodeDraw(
            self.source,
            self.split,
            shape,
            self.unknown_for(shape),
            seed=self.seed,
            step=step,
            n_episodes=self.n_episodes,
        )
        return episode_logits(self.learner, self.state, draw, progress)

    @property
    def n_outputs(self) -> int | None:
        """Return how many classes an episode must have; None where any number will do."""
        return self.learner.n_classes if isinstance(self.learner, EpisodicLearner) else None

    def fitting(self, n_way: int, k_shot: int) -> EpisodeShape | None:
        """Return the nearest shape that the split can fill and the learner takes."""
        fixed = self.n_outputs
        if fixed is not None:
            n_way = fixed
        shapes = _smaller(self.template, min(n_way, self.source.n_classes(self.split)), k_shot)
        for shape in shapes:
            if fixed in (None, shape.n_way) and self._can_fill(shape):
                return shape
        return None

    def unknown_for(self, shape: EpisodeShape) -> int:
        """Return how many unknown classes there can be next to those of an episode."""
        room = self.source.n_classes(self.split) - shape.n_way
        most = shape.n_way if self.n_unknown is None else self.n_unknown
        for n_unknown in range(min(most, room), 0, -1):
            if self._can_fill(replace(shape, n_way=shape.n_way + n_unknown)):
                return n_unknown
        return 0

    def _can_fill(self, shape: EpisodeShape) -> bool:
        try:
            self.source.check(self.split, shape)
        except ConfigError:
            return False
        return True


def calibrated(logits: EpisodeLogits, by: Calibrator) -> ShapeCalibration:
    """Sum up the logits of one shape."""
    shape, n_way = logits.shape, logits.shape.n_way
    temperature = fit_temperature(logits.known.flatten(0, 1), logits.targets.flatten())
    shares = probabilities(logits.known, temperature)
    unknown = None
    if logits.unknown.numel():
        n_unknown = by.unknown_for(shape)
        unknown = choose_rule(logits.known, logits.unknown, temperature, n_unknown)
    return ShapeCalibration(
        n_way,
        shape.k_shot,
        logits.n_episodes,
        temperature,
        coverage_thresholds(shares, logits.targets),
        unknown,
    )


def _smaller(template: EpisodeShape, n_way: int, k_shot: int) -> Iterator[EpisodeShape]:
    """Yield shapes from what is wanted downwards: fewer queries, then fewer shots, then ways."""
    for ways in range(n_way, 1, -1):
        for shots in range(min(k_shot, _MOST_SHOTS), 0, -1):
            for n_query in range(template.n_query, 0, -1):
                yield replace(template, n_way=ways, k_shot=shots, n_query=n_query)
