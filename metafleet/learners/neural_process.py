"""Functions that neural processes share: Gaussian outputs, their likelihood and KL divergence."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_SPREAD = 0.1


def gaussian(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Convert means and raw spreads, [n, 2 d], to means and standard deviations, [n, d] each.

    The deviation is 0.1 + 0.9 softplus(raw). The lower bound keeps the likelihood bounded.

    Source: Kim et al. 2019, arXiv:1901.05761, appendix A.
    """
    mean, raw = decoded.chunk(2, dim=-1)
    return mean, _LEAST_SPREAD + (1.0 - _LEAST_SPREAD) * F.softplus(raw)


def negative_log_likelihood(targets: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Return the mean over points of -log N(targets; mean, spread^2), in nats; all [n, d]."""
    terms = 0.5 * ((targets - mean) / spread).square() + spread.log()
    return (terms + 0.5 * math.log(2.0 * math.pi)).sum(dim=-1).mean()


def normal_divergence(
    mean: Tensor, spread: Tensor, other_mean: Tensor, other_spread: Tensor
) -> Tensor:
    """Return KL(N(mean, spread^2) || N(other_mean, other_spread^2)), summed, in nats."""
    ratio = (spread / other_spread).square()
    distance = ((mean - other_mean) / other_spread).square()
    return torch.sum(0.5 * (ratio + distance - 1.0 - ratio.log()))
