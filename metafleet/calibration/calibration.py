"""The calibration that is stored with a model. It has a part for each shape of support sets."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from metafleet.calibration.conformal import N_LEVELS, label_sets, relative_shares, threshold_of
from metafleet.calibration.temperature import HIGHEST, LOWEST, probabilities
from metafleet.calibration.unknown import UnknownRule
from metafleet.errors import ModelError
from metafleet.options import parse_record, require


@dataclass(frozen=True, slots=True)
class RelativeThresholds:
    """Thresholds of label sets relative to the difficulty of a support set.

    Attributes:
        temperature: number by which logits of held-out examples are divided.
        thresholds: thresholds for probabilities that ``relative_shares`` returned; see
            ``coverage_thresholds``.
    """

    temperature: float
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_temperature(self.temperature)
        _require_thresholds(self.thresholds)


@dataclass(frozen=True, slots=True)
class ShapeCalibration:
    """The calibration from episodes of one shape.

    Attributes:
        n_way, k_shot: shape of the episodes.
        episodes: number of episodes, >= 1.
        temperature: number by which logits are divided; see ``fit_temperature``.
        thresholds: thresholds of label sets; see ``coverage_thresholds``.
        unknown: rule that detects items that belong to none of the classes; None if the split had
            too few classes to fit such a rule.
        relative: thresholds for support sets of known difficulty; None for episodes with one
            example per class, because no example of such an episode can be held out.
    """

    n_way: int
    k_shot: int
    episodes: int
    temperature: float
    thresholds: tuple[float, ...]
    unknown: UnknownRule | None = None
    relative: RelativeThresholds | None = None

    def __post_init__(self) -> None:
        require(self.n_way >= 2, "n_way", self.n_way, "2 or more")
        require(self.k_shot >= 1, "k_shot", self.k_shot, "1 or more")
        require(self.episodes >= 1, "episodes", self.episodes, "1 or more")
        _require_temperature(self.temperature)
        _require_thresholds(self.thresholds)

    def __str__(self) -> str:
        return f"{self.n_way}-way {self.k_shot}-shot"

    def threshold(self, coverage: float, *, is_relative: bool) -> float:
        """Return the threshold of a coverage in (0, 1), relative to the difficulty or not."""
        found = self.relative.thresholds if is_relative and self.relative else self.thresholds
        return threshold_of(found, coverage)

    def label_sets(
        self, logits: Tensor, coverage: float, difficulty: Tensor | float | None
    ) -> Tensor:
        """Return which labels are in the set of each item, bool [..., n_way].

        Args:
            logits: [..., n_way].
            coverage: requested coverage, in (0, 1).
            difficulty: difficulty of the support sets, broadcastable to ``logits``; None if the
                difficulty is not known.
        """
        shares = probabilities(logits, self.temperature)
        is_relative = self.relative is not None and difficulty is not None
        if self.relative is not None and difficulty is not None:
            shares = relative_shares(shares, difficulty)
        return label_sets(shares, self.threshold(coverage, is_relative=is_relative))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration from validation episodes of several shapes.

    Attributes:
        split: the split from which the episodes came.
        shapes: the calibration for each shape; at least one. They differ in ``n_way`` or
            ``k_shot``.
    """

    split: str
    shapes: tuple[ShapeCalibration, ...]

    def __post_init__(self) -> None:
        require(bool(self.shapes), "shapes", [], "one or more")

    def nearest(self, n_way: int, k_shot: float) -> ShapeCalibration:
        """Return the calibration for the shape that is nearest to the shape of a support set.

        The distance of two shapes is |log(n_way / n_way')| + |log(k_shot / k_shot')|. If several
        shapes are equally near, the calibration for the first of them is returned.

        Args:
            n_way: number of classes in the support set.
            k_shot: mean number of examples per class; 0 is the same as 1.
        """

        def distance(shape: ShapeCalibration) -> float:
            ratios = (shape.n_way / n_way, shape.k_shot / (k_shot or 1.0))
            return sum(abs(math.log(ratio)) for ratio in ratios)

        return min(self.shapes, key=distance)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Calibration":
        """Parse the values that ``to_json`` returned.

        Raises:
            ModelError: the values do not describe a calibration.
        """
        return parse_record(cls, values, where="the calibration", error=ModelError)


def _require_temperature(temperature: float) -> None:
    is_sound = LOWEST <= temperature <= HIGHEST
    require(is_sound, "temperature", temperature, f"{LOWEST} to {HIGHEST}")


def _require_thresholds(thresholds: tuple[float, ...]) -> None:
    is_sound = len(thresholds) == N_LEVELS - 1 and all(0 <= t <= 1 for t in thresholds)
    is_sound = is_sound and list(thresholds) == sorted(thresholds)
    require(is_sound, "thresholds", "...", f"{N_LEVELS - 1} numbers in [0, 1], ascending")


def mean_shots(classes: Mapping[str, int]) -> float:
    """Return the mean number of examples per class, given class -> number of examples."""
    return sum(classes.values()) / len(classes)
