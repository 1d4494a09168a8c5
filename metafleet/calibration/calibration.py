"""The calibration that is stored with a model. It has a part for each shape of support sets."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from metafleet.calibration.conformal import N_LEVELS
from metafleet.calibration.temperature import HIGHEST, LOWEST
from metafleet.calibration.unknown import UnknownRule
from metafleet.errors import ModelError
from metafleet.options import parse_record, require


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
    """

    n_way: int
    k_shot: int
    episodes: int
    temperature: float
    thresholds: tuple[float, ...]
    unknown: UnknownRule | None = None

    def __post_init__(self) -> None:
        require(self.n_way >= 2, "n_way", self.n_way, "2 or more")
        require(self.k_shot >= 1, "k_shot", self.k_shot, "1 or more")
        require(self.episodes >= 1, "episodes", self.episodes, "1 or more")
        is_sound = LOWEST <= self.temperature <= HIGHEST
        require(is_sound, "temperature", self.temperature, f"{LOWEST} to {HIGHEST}")
        is_sound = len(self.thresholds) == N_LEVELS - 1 and all(
            0 <= t <= 1 for t in self.thresholds
        )
        is_sound = is_sound and list(self.thresholds) == sorted(self.thresholds)
        require(is_sound, "thresholds", "...", f"{N_LEVELS - 1} numbers in [0, 1], ascending")

    def __str__(self) -> str:
        return f"{self.n_way}-way {self.k_shot}-shot"


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

        The distance of two shapes is |log(n_way / n_way')| + |log(k_shot / k_shot')|. Of equally
        near shapes, the first is returned.

        Args:
            n_way: number of classes in the support set.
            k_shot: mean number of examples per class.
        """

        def distance(shape: ShapeCalibration) -> float:
            ratios = (shape.n_way / n_way, shape.k_shot / k_shot)
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


def mean_shots(classes: Mapping[str, int]) -> float:
    """Return the mean number of examples per class, given class -> number of examples."""
    return sum(classes.values()) / len(classes)
