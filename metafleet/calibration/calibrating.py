"""Compute a calibration from validation episodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from metafleet.calibration.calibration import Calibration, RelativeThresholds, ShapeCalibration
from metafleet.calibration.conformal import coverage_thresholds, relative_shares
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
"""The step in the addresses of calibration episodes. Validation episodes have step 0."""
DEFAULT_EPISODES: Final = 400
EPISODES_OF_MANY: Final = 200
"""Number of episodes of each shape if there are many shapes."""
USUAL_WAYS: Final = (2, 5, 10, 20)
USUAL_SHOTS: Final = (1, 5)
_MOST_WAYS: Final = 64
_MOST_SHOTS: Final = 64
"""Beyond these, results change little and episodes take long."""
MOST_EXAMPLES: Final = 200_000
"""Maximum number of examples in all episodes of one shape; it bounds the time of a calibration."""
_LEAST_EPISODES: Final = 50


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Calibrates a learned state on episodes of a split.

    Attributes:
        learner, state: the learner and the learned state to calibrate.
        source: the source of episodes.
        template: the shape of the run's own episodes of this split. Calibration episodes have the
            same settings as these episodes, except for the numbers of classes and examples.
        seed: seed of the run.
        n_unknown: number of unknown classes in an episode, which have queries but no support
            examples. None means as many unknown classes as known classes. If the split cannot fill
            such episodes, ``n_unknown`` is reduced to the largest number for which it can.
        n_episodes: number of episodes of each shape. ``calibrate`` draws fewer if the episodes are
            large.
        split: episodes are drawn from the classes of this split.
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
        """Return the calibration for support sets of the wanted sizes.

        Args:
            wanted: (n_way, k_shot) pairs. A pair for which the split has too few classes or items
                is replaced by the next smaller pair.
            progress: called with the progress.

        Raises:
            ConfigError: the split cannot fill episodes of any pair.
            NumericsError: an output is not finite.
        """
        found = dict.fromkeys(shape for pair in wanted if (shape := self.fitting(*pair)))
        if not found:
            n_classes = self.source.n_classes(self.split)
            raise ConfigError(
                f"split {self.split!r} with {n_classes} classes cannot fill episodes for "
                "calibration; split the data so that it has 2 or more classes of 2 or more items"
            )
        shapes = []
        for shape in found:
            bounded = replace(self, n_episodes=self._affordable(shape))
            shapes.append(calibrated(bounded.logits(shape, progress=progress), self))
        return Calibration(self.split, tuple(shapes))

    def usual_shapes(self) -> list[tuple[int, int]]:
        """Return the usual (n_way, k_shot) pairs, together with those of the run's episodes."""
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
        """Compute the logits of episodes of ``shape``, which the split must be able to fill."""
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
        """The number of classes that an episode must have; None if any number is allowed."""
        return self.learner.n_classes if isinstance(self.learner, EpisodicLearner) else None

    def fitting(self, n_way: int, k_shot: int) -> EpisodeShape | None:
        """Return the largest shape up to this size that both split and learner support."""
        fixed = self.n_outputs
        if fixed is not None:
            n_way = fixed
        most = min(n_way, self.source.n_classes(self.split))
        ways = [fixed] if fixed is not None else range(min(most, _MOST_WAYS), 1, -1)
        for n_way in ways:
            smallest = replace(self.template, n_way=n_way, k_shot=1, n_query=1)
            if self._can_fill(smallest):
                shapes = _smaller(smallest, min(k_shot, _MOST_SHOTS), self.template.n_query)
                return next(filter(self._can_fill, shapes))
        return None

    def unknown_for(self, shape: EpisodeShape) -> int:
        """Return how many unknown classes an episode of ``shape`` can have."""
        room = self.source.n_classes(self.split) - shape.n_way
        most = shape.n_way if self.n_unknown is None else self.n_unknown
        for n_unknown in range(min(most, room), 0, -1):
            if self._can_fill(replace(shape, n_way=shape.n_way + n_unknown)):
                return n_unknown
        return 0

    def _affordable(self, shape: EpisodeShape) -> int:
        """Return how many episodes of ``shape`` to draw."""
        n_ways = (shape.n_way, shape.n_way + self.unknown_for(shape))
        examples = n_ways[0] * shape.k_shot + n_ways[1] * shape.n_query
        return min(self.n_episodes, max(_LEAST_EPISODES, MOST_EXAMPLES // examples))

    def _can_fill(self, shape: EpisodeShape) -> bool:
        try:
            self.source.check(self.split, shape)
        except ConfigError:
            return False
        return True


def calibrated(logits: EpisodeLogits, by: Calibrator) -> ShapeCalibration:
    """Calibrate on the logits of episodes of one shape."""
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
        _relative(logits, shares),
    )


def _relative(logits: EpisodeLogits, shares: Tensor) -> RelativeThresholds | None:
    """Return thresholds relative to the difficulty of each episode, given probabilities."""
    held_out = logits.held_out
    known, targets = (torch.cat([getattr(h, n) for h in held_out]) for n in ("logits", "targets"))
    temperature = fit_temperature(known, targets) if len(targets) else 1.0
    found = logits.difficulties(temperature)
    if found is None:
        return None
    scores = relative_shares(shares, found[:, None, None])
    return RelativeThresholds(temperature, coverage_thresholds(scores, logits.targets))


def _smaller(smallest: EpisodeShape, k_shot: int, n_query: int) -> Iterator[EpisodeShape]:
    """Yield ever smaller shapes: first with fewer queries, then with fewer shots."""
    for shots in range(k_shot, 0, -1):
        for queries in range(n_query, 0, -1):
            yield replace(smallest, k_shot=shots, n_query=queries)
