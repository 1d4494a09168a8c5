"""Measure a calibration on episodes of classes that it was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metafleet.calibration.calibration import ShapeCalibration
from metafleet.calibration.conformal import is_covered
from metafleet.calibration.episode_logits import EpisodeLogits
from metafleet.calibration.reliability import (
    ReliabilityBin,
    expected_calibration_error,
    reliability_bins,
)
from metafleet.calibration.temperature import cross_entropy, probabilities
from metafleet.calibration.unknown import SCORES, UnknownRule, auroc
from metafleet.learners.summary import mean_and_half_width


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over episodes.

    Attributes:
        mean: the mean.
        ci95: half-width of the mean's 95 % confidence interval.
    """

    mean: float
    ci95: float

    @classmethod
    def over(cls, values: Tensor) -> "Mean":
        """Return the mean of values [episodes], one for each episode."""
        return cls(*mean_and_half_width(values.double().tolist()))


@dataclass(frozen=True, slots=True)
class Coverage:
    """Measured properties of label sets.

    Attributes:
        asked: the requested coverage.
        covered: share of items whose set contains the correct label.
        set_size: mean number of labels in a set.
        asks: share of items whose set does not have exactly one label. A person must label these
            items.
    """

    asked: float
    covered: Mean
    set_size: Mean
    asks: Mean


@dataclass(frozen=True, slots=True)
class Unknown:
    """Measured properties of the rule that detects items of none of the classes.

    Attributes:
        score: name of the score that the rule uses.
        n_unknown: number of unknown classes in an episode, in addition to the known ones.
        auroc: probability that a known item has a higher score than an unknown item, if both are
            drawn from all episodes together.
        kept: share of known items that the rule takes for known; the target is 0.95.
        refused: share of unknown items that the rule takes for unknown.
        accuracy: share of correctly labelled items among the known items that are kept.
        right: share of all items that are handled correctly: known items that are kept and
            correctly labelled, and unknown items that are refused.
    """

    score: str
    n_unknown: int
    auroc: float
    kept: Mean
    refused: Mean
    accuracy: Mean
    right: Mean


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Measured quality of a model's estimates of its own uncertainty.

    Attributes:
        split: the split from which the measured episodes come.
        n_way, k_shot, episodes: shape and number of these episodes.
        calibrated_on: description of the calibration episodes, such as
            "meta_val, 5-way 1-shot, 400 episodes".
        temperature: temperature of the calibration.
        loss, loss_before: mean cross-entropy in nats, with the temperature and without it.
        ece, ece_before: expected calibration error in [0, 1], with the temperature and without it.
        reliability: reliability diagram of the calibrated probabilities.
        coverage: results for each requested coverage.
        unknown: results of the rule for unknown items; None if there were no unknown classes.
    """

    split: str
    n_way: int
    k_shot: int
    episodes: int
    calibrated_on: str
    temperature: float
    loss: float
    loss_before: float
    ece: float
    ece_before: float
    reliability: tuple[ReliabilityBin, ...]
    coverage: tuple[Coverage, ...]
    unknown: Unknown | None


def judge_calibration(
    logits: EpisodeLogits,
    calibration: ShapeCalibration,
    coverages: Sequence[float],
    *,
    split: str,
    n_unknown: int,
    calibrated_on: str,
) -> Uncertainty:
    """Measure a calibration on other episodes than the episodes on which it was fitted.

    Args:
        logits: logits of the episodes to measure on.
        calibration: the calibration, fitted on episodes of other classes.
        coverages: the requested coverages, each in (0, 1).
        split: the split from which ``logits`` come.
        n_unknown: number of unknown classes in each of these episodes.
        calibrated_on: description of the calibration episodes, for people.
    """
    before = probabilities(logits.known, 1.0)
    shares = probabilities(logits.known, calibration.temperature)
    bins = _bins(shares, logits.targets)
    rule = calibration.unknown
    return Uncertainty(
        split=split,
        n_way=logits.shape.n_way,
        k_shot=logits.shape.k_shot,
        episodes=logits.n_episodes,
        calibrated_on=calibrated_on,
        temperature=calibration.temperature,
        loss=cross_entropy(logits.known, logits.targets, calibration.temperature),
        loss_before=cross_entropy(logits.known, logits.targets, 1.0),
        ece=expected_calibration_error(bins),
        ece_before=expected_calibration_error(_bins(before, logits.targets)),
        reliability=bins,
        coverage=tuple(_coverage(logits, calibration, asked) for asked in coverages),
        unknown=_unknown(logits, rule, calibration.temperature, n_unknown)
        if rule and logits.unknown.numel()
        else None,
    )


def _bins(shares: Tensor, targets: Tensor) -> tuple[ReliabilityBin, ...]:
    return reliability_bins(shares.flatten(0, 1), targets.flatten())


def _coverage(logits: EpisodeLogits, calibration: ShapeCalibration, asked: float) -> Coverage:
    relative = calibration.relative
    found = logits.difficulties(relative.temperature) if relative else None
    difficulties = None if found is None else found[:, None, None]
    sets = calibration.label_sets(logits.known, asked, difficulties)
    sizes = sets.sum(dim=-1)
    of_episodes = (is_covered(sets, logits.targets), sizes, sizes != 1)
    return Coverage(asked, *(Mean.over(each.double().mean(dim=1)) for each in of_episodes))


def _unknown(
    logits: EpisodeLogits, rule: UnknownRule, temperature: float, n_unknown: int
) -> Unknown:
    score = SCORES[rule.score]
    scores = [score(each / temperature).flatten() for each in (logits.known, logits.unknown)]
    kept = ~rule.is_unknown(logits.known, temperature)
    refused = rule.is_unknown(logits.unknown, temperature)
    is_right = kept & (logits.known.argmax(dim=-1) == logits.targets)
    some = kept.any(dim=1)  # of an episode that keeps nothing, no accuracy is known
    accuracy = is_right.sum(dim=1)[some] / kept.sum(dim=1)[some]
    return Unknown(
        rule.score,
        n_unknown,
        auroc(*scores),
        kept=Mean.over(kept.double().mean(dim=1)),
        refused=Mean.over(refused.double().mean(dim=1)),
        accuracy=Mean.over(accuracy) if bool(some.any()) else Mean(0.0, 0.0),
        right=Mean.over(torch.cat([is_right, refused], dim=1).double().mean(dim=1)),
    )
