"""Temperature scaling: one number that makes probabilities agree with the share of correct answers.

Source: Guo et al. 2017, arXiv:1706.04599, section 4.2 (temperature scaling).
"""

import math
from typing import Final

import torch
from torch import Tensor

LOWEST: Final = 1e-2
HIGHEST: Final = 1e4
"""Large enough for squared distances of wide embeddings, which are in the thousands."""
_HALVINGS: Final = 60
_LEAST_SHARE: Final = 1e-12


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the T that minimises the mean cross-entropy of ``softmax(logits / T)``.

    The cross-entropy is convex in 1 / T. Its derivative with respect to 1 / T is the mean of the
    expected logit minus the target's logit. Bisection finds the derivative's zero. If every query
    is answered correctly, the derivative has no zero, and the function returns 1.0.

    Args:
        logits: float [n, n_way].
        targets: the correct classes, int64 [n].

    Returns:
        T in [LOWEST, HIGHEST].
    """
    logits = logits.double()
    logits = logits - logits.max(dim=1, keepdim=True).values
    wanted = logits.gather(1, targets[:, None]).squeeze(1)
    if bool((wanted == 0).all()):
        return 1.0
    low, high = math.log(1 / HIGHEST), math.log(1 / LOWEST)  # bounds of log(1 / T)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        shares = torch.softmax(math.exp(middle) * logits, dim=1)
        slope = float(((shares * logits).sum(dim=1) - wanted).mean())
        low, high = (middle, high) if slope < 0 else (low, middle)
    # the exponential may round to just outside the bounds
    return min(max(math.exp(-(low + high) / 2), LOWEST), HIGHEST)


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Return float64 probabilities [..., n_way], which are positive and sum to 1."""
    return torch.softmax(logits.double() / temperature, dim=-1)


def log_odds(shares: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of float64 probabilities p, which is finite for 0 and 1 too."""
    return torch.logit(shares, eps=_LEAST_SHARE)


def cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> float:
    """Return the mean cross-entropy in nats, even if probabilities are too small for a float64.

    Args:
        logits: [..., n_way].
        targets: the correct classes, int64 [...].
        temperature: number by which logits are divided.
    """
    logs = torch.log_softmax(logits.double() / temperature, dim=-1)
    return float(-logs.gather(-1, targets[..., None]).mean())
