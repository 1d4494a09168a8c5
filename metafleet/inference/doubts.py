"""The uncertainty of predictions: label sets, and detection of items of none of the classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metafleet.calibration.calibration import Calibration, ShapeCalibration, mean_shots
from metafleet.calibration.temperature import probabilities
from metafleet.calibration.unknown import UnknownRule
from metafleet.errors import ConfigError, ModelError
from metafleet.options import require

_HOW = (
    "adapt it again from its run, by `metafleet adapt RUN --support FOLDER --out MODEL`, or from a "
    "model that `metafleet export RUN` writes"
)
_TRAIN = (
    "only a run can be calibrated: train one with this encoder (`metafleet submit`), and adapt it "
    "by `metafleet adapt RUN --support FOLDER --out MODEL`"
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """The uncertainty about one item.

    Attributes:
        labels: the classes to which the item may belong, the most likely first; None if not
            requested.
        unknown: whether the item belongs to none of the classes; None if not requested.
    """

    labels: tuple[str, ...] | None = None
    unknown: bool | None = None


@dataclass(frozen=True, slots=True)
class Doubter:
    """Determines the uncertainty of one model's predictions.

    Attributes:
        classes: class -> number of its examples in the support set.
        calibration: the model's calibration; None if the model has none. Without a calibration, no
            uncertainty is determined.
        coverage: requested coverage of label sets; None for no label sets.
        rule: the rule that detects unknown items; None if unknown items are not to be detected.
        difficulty: difficulty of the support set, in log odds; None if the difficulty is unknown.
    """

    classes: Mapping[str, int]
    calibration: ShapeCalibration | None = None
    coverage: float | None = None
    rule: UnknownRule | None = None
    difficulty: float | None = None

    @classmethod
    def of(
        cls,
        classes: Mapping[str, int],
        calibration: Calibration | None,
        *,
        coverage: float | None,
        unknown: bool,
        has_run: bool = True,
        difficulty: float | None = None,
    ) -> "Doubter":
        """Return a doubter for a model, after checking that the model supports the request.

        Args:
            classes: the model's classes, as in ``AdaptedModel``.
            calibration: the model's calibration; None if it has none.
            coverage: requested coverage of label sets, in (0, 1); None for no label sets.
            unknown: whether to detect items that belong to none of the classes.
            has_run: whether the model comes from a run, for the message.
            difficulty: difficulty of the model's support set; None if it is not known.

        Raises:
            ConfigError: the coverage is out of range, or the model is for regression.
            ModelError: the model has no calibration, or its calibration has no rule for unknown
                items.
        """
        if coverage is not None:
            require(0.0 < coverage < 1.0, "coverage", coverage, "a number between 0 and 1")
        found = calibration.nearest(len(classes), mean_shots(classes)) if calibration else None
        if coverage is None and not unknown:
            return cls(classes, found)
        if not classes:
            raise ConfigError("coverage and unknown are about classes; the model predicts values")
        if found is None:
            raise ModelError(
                "the model has no calibration, so it cannot tell what it does not know; "
                + (_HOW if has_run else _TRAIN)
            )
        if unknown and found.unknown is None:
            raise ModelError(
                f"the model was calibrated without classes to spare, so it cannot tell items of "
                f"none of its classes; split the data with more than {found.n_way} validation "
                f"classes, and {_HOW}"
            )
        return cls(classes, found, coverage, found.unknown if unknown else None, difficulty)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes, one line each, on how reliable the doubts are."""
        if self.calibration is None or (self.coverage is None and self.rule is None):
            return ()
        return (*self._about_coverage(), *self._about_unknown(), *self._about_shape())

    def doubts(self, logits: Tensor) -> list[Doubt]:
        """Return the doubt about each item, given logits [n, classes]."""
        n = len(logits)
        sets: Sequence[tuple[str, ...] | None] = [None] * n
        unknown: Sequence[bool | None] = [None] * n
        if self.calibration is not None:
            temperature = self.calibration.temperature
            if self.coverage is not None:
                sets = self._label_sets(logits, self.coverage)
            if self.rule is not None:
                unknown = self.rule.is_unknown(logits, temperature).tolist()
        return [Doubt(*each) for each in zip(sets, unknown, strict=True)]

    def _label_sets(self, logits: Tensor, coverage: float) -> list[tuple[str, ...]]:
        assert self.calibration is not None
        names = list(self.classes)
        is_in = self.calibration.label_sets(logits, coverage, self.difficulty)
        shares = probabilities(logits, self.calibration.temperature)
        order = torch.argsort(shares, dim=1, descending=True, stable=True)
        return [
            tuple(names[place] for place in places if row[place])
            for places, row in zip(order.tolist(), is_in.tolist(), strict=True)
        ]

    @property
    def _is_relative(self) -> bool:
        """Whether thresholds of label sets are relative to the difficulty of the support set."""
        is_relative = self.calibration is not None and self.calibration.relative is not None
        return is_relative and self.difficulty is not None

    def _about_coverage(self) -> list[str]:
        if self.coverage is None or self.calibration is None:
            return []
        said = [
            f"label sets: coverage {self.coverage:g} holds for classes and items drawn like those "
            f"of the run's validation ({self.calibration}); for others, such as a folder of yours, "
            f"it is a guide and no promise{self._about_difficulty()}"
        ]
        if self.calibration.threshold(self.coverage, is_relative=self._is_relative) >= 1.0:
            said.append(
                f"label sets: {self.calibration.episodes} calibration episodes say nothing of "
                f"coverage {self.coverage:g}, so every set has every label; calibrate on more"
            )
        return said

    def _about_unknown(self) -> list[str]:
        if self.rule is None:
            return []
        return [
            f"unknown: in validation episodes with {self.rule.n_unknown} other classes, a known "
            f"item scored higher than an unknown one in {100 * self.rule.auroc:.0f} % of pairs "
            "(50 % is chance); for classes unlike those of validation, it is a guide and no promise"
        ]

    def _about_difficulty(self) -> str:
        if self._is_relative:
            return "; it takes into account how well the support examples predict each other"
        if set(self.classes.values()) == {1}:
            return "; two or more examples per class would show how hard your classes are"
        return ""

    def _about_shape(self) -> list[str]:
        assert self.calibration is not None
        shape, shots = self.calibration, sorted(set(self.classes.values()))
        if shape.n_way == len(self.classes) and shots == [shape.k_shot]:
            return []
        examples = " to ".join(dict.fromkeys((str(shots[0]), str(shots[-1]))))
        examples += " example" if shots == [1] else " examples"
        return [
            f"calibrated on {shape} episodes, the nearest to this model's {len(self.classes)} "
            f"classes of {examples} each: coverage and thresholds are off by what this changes"
        ]
