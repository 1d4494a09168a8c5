"""Average precision, which measures whether scores rank items with a label before the others."""

import torch
from torch import Tensor


def average_precision(scores: Tensor, is_relevant: Tensor) -> float:
    """Return the average precision in (0, 1]: sum over thresholds i of (R_i - R_{i-1}) P_i.

    Threshold i is the i-th highest score; items with equal scores share one threshold. P_i and R_i
    are the precision and the recall if the retrieved items are those whose score is at least
    threshold i.

    Args:
        scores: [n] finite.
        is_relevant: [n] bool, true for at least one item.

    Source: Manning et al. 2008, Introduction to Information Retrieval, section 8.4, without
    interpolation.
    """
    ordered, order = scores.double().sort(descending=True, stable=True)
    found = is_relevant[order].double().cumsum(0)
    precision = found / torch.arange(1, len(ordered) + 1, dtype=torch.float64, device=found.device)
    is_threshold = torch.ones_like(ordered, dtype=torch.bool)
    is_threshold[:-1] = ordered[1:] != ordered[:-1]
    recall = found[is_threshold] / found[-1]
    gained = recall.diff(prepend=recall.new_zeros(1))
    return float((gained * precision[is_threshold]).sum())


def mean_average_precision(scores: Tensor, targets: Tensor) -> float:
    """Return the mean of the average precision over labels. Labels that no item has are left out.

    Args:
        scores: [n, n_labels].
        targets: [n, n_labels], 1 where an item has a label, and 0 elsewhere.

    Returns:
        A value in [0, 1]; 0 if no item has any label.
    """
    columns = zip(scores.unbind(1), (targets > 0).unbind(1), strict=True)
    found = [average_precision(column, has) for column, has in columns if bool(has.any())]
    return sum(found) / max(len(found), 1)
