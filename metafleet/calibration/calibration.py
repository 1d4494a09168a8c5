"""What is kept of validation episodes with a model, and how a model finds what fits it."""

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
    """What episodes of one shape said.

    Attributes:
        n_way, k_shot: of the episodes.
        episodes: how many they were, >= 1.
        temperature: what logits are divided by; see ``fit_temperature``.
        thresholds: of label sets; see ``coverage_thresholds``.
        unknown: how items of none of the classes are told; None where the split had no classes
            left for such.
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
    """What validation episodes of several shapes said.

    Attributes:
        split: whose classes they were of.
        shapes: one or more, of different ``n_way`` and ``k_shot``.
    """

    split: str
    shapes: tuple[ShapeCalibration, ...]

    def __post_init__(self) -> None:
        require(bool(self.shapes), "shapes", [], "one or more")

    def nearest(self, n_way: int, k_shot: float) -> ShapeCalibration:
        """Return what is nearest by the ratios of ways and of shots, the first of equals.

        Args:
            n_way: classes of a support set.
            k_shot: examples of a class, on average.
        """

        def distance(shape: ShapeCalibration) -> float:
            ratios = (shape.n_way / n_way, shape.k_shot / k_shot)
            return sum(abs(math.log(ratio)) for ratio in ratios)

        return min(self.shapes, key=distance)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that ``from_json`` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Calibration":
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: it is something else.
        """
        return parse_record(cls, values, where="the calibration", error=ModelError)


def mean_shots(classes: Mapping[str, int]) -> float:
    """Return how many examples a class has on average, of class -> examples."""
    return sum(classes.values()) / len(classes)
