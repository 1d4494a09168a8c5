"""Targets and predictions of items with several labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from metafleet.data.label_text import labels_in
from metafleet.errors import ConfigError, DataError
from metafleet.learners.average_precision import mean_average_precision
from metafleet.problem import Problem

THRESHOLD = 0.5
"""Default minimum probability at which an item gets a label."""


@dataclass(frozen=True, slots=True)
class Labelling:
    """The predicted labels of one item.

    Attributes:
        item: the item's file or row, such as "photos/a.png" or "metadata.csv:17".
        labels: labels whose probability is at least the threshold, in the model's order.
        probabilities: label -> probability in [0, 1]. Labels are independent, so the probabilities
            need not sum to 1. If a logit is above 37, its probability is rounded to exactly 1 in
            float64.
        logits: label -> logit, in the same order. Logits can rank items whose probabilities are
            equal.
        given: the labels that the folder gives the item.
        separator: text between the labels of an item in a table.
    """

    item: str
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]
    logits: Mapping[str, float]
    given: tuple[str, ...]
    separator: str

    def columns(self) -> dict[str, str | float]:
        """Return the columns of a table; the probability columns are "p(<label>)"."""
        first: dict[str, str | float] = {
            "item": self.item,
            "labels": self.separator.join(self.labels),
            "given": self.separator.join(self.given),
        }
        return first | {f"p({name})": value for name, value in self.probabilities.items()}

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        left_out = ("logits", "separator")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def check_question(problem: Problem, threshold: float | None, *, is_doubted: bool) -> None:
    """Check that a model supports the requested predictions.

    Args:
        problem: the model's problem.
        threshold: minimum probability at which an item gets a label; None for 0.5.
        is_doubted: whether label sets or the detection of unknown items were requested. Models of
            items with several labels support neither.

    Raises:
        ConfigError: the threshold is not a probability, or this kind of model does not support the
            request.
    """
    if threshold is not None and not problem.is_multi_label:
        raise ConfigError(
            f"threshold={threshold}, but the model gives an item one class, the likeliest; leave "
            "it out"
        )
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise ConfigError(f"threshold={threshold}; expected a probability, more than 0 and below 1")
    if is_doubted and problem.is_multi_label:
        raise ConfigError(
            "coverage and unknown are about one class an item; the model gives an item several "
            "labels: leave them out, and choose a threshold"
        )


def label_rows(
    names: Sequence[str],
    given: Sequence[str] | None,
    logits: Tensor,
    labels: Sequence[str],
    *,
    separator: str,
    threshold: float | None,
) -> tuple[Labelling, ...]:
    """Return the predicted labels of items.

    Args:
        names: names of the items.
        given: for each item, one text with the labels that the folder gives the item.
        logits: [n, labels].
        labels: the labels, in the order of the logits.
        separator: the text between labels.
        threshold: minimum probability at which an item gets a label; None for 0.5.
    """
    least = THRESHOLD if threshold is None else threshold
    known = given or [""] * len(names)
    shares = torch.sigmoid(logits.double()).tolist()
    return tuple(
        Labelling(
            name,
            tuple(label for label, share in zip(labels, row, strict=True) if share >= least),
            dict(zip(labels, row, strict=True)),
            dict(zip(labels, values, strict=True)),
            tuple(filter(None, labels_in(text, separator))),
            separator,
        )
        for name, text, row, values in zip(names, known, shares, logits.tolist(), strict=True)
    )


def count_labels(texts: Sequence[str], separator: str) -> dict[str, int]:
    """Return label -> number of items that have it, sorted by label."""
    return dict(sorted(Counter(it for text in texts for it in labels_in(text, separator)).items()))


def label_targets(texts: Sequence[str], labels: Sequence[str], separator: str) -> Tensor:
    """Return float [items, labels], 1 where an item has a label."""
    having = [set(labels_in(text, separator)) for text in texts]
    return torch.tensor([[float(label in found) for label in labels] for found in having])


def check_label_targets(targets: Tensor, n_labels: int) -> None:
    """Check the targets of items that may have several labels.

    Raises:
        DataError: the targets are not an array [n, n_labels] of zeros and ones.
    """
    if targets.dim() != 2 or targets.shape[1] != n_labels or not targets.is_floating_point():
        kind = str(targets.dtype).removeprefix("torch.")
        raise DataError(
            f"targets are {kind} {list(targets.shape)}; expected float32 [n, {n_labels}], 1 where "
            "an example has a label and 0 elsewhere"
        )
    if not bool(((targets == 0) | (targets == 1)).all()):
        raise DataError("targets hold other values than 0 and 1; expected 1 for each label it has")


def precision_of(rows: Sequence[Labelling]) -> tuple[float, int] | None:
    """Return the mean average precision over labelled items, and the number of these items.

    An item counts as labelled if the folder gives it a label that the model knows. If no item is
    labelled, the result is None.
    """
    labels = list(rows[0].probabilities) if rows else []
    known = [row for row in rows if set(row.given) & set(labels)]
    if not known:
        return None
    scores = torch.tensor([list(row.logits.values()) for row in known], dtype=torch.float64)
    targets = torch.tensor([[float(label in row.given) for label in labels] for row in known])
    return mean_average_precision(scores, targets), len(known)
