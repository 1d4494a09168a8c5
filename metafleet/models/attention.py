"""Dot-product attention from matrix products and a softmax, which can be differentiated twice."""

import math

import torch
from torch import Tensor


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return the mean of ``values`` that each query weighs by softmax(q k / sqrt(d)).

    Args:
        queries: [..., n, d].
        keys: [..., m, d].
        values: [..., m, e].
        mask: bool [n, m], True where a query may look; every row needs one True. None: anywhere.

    Returns:
        [..., n, e].

    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1. ``scaled_dot_product_attention`` of torch
    has no double backward in its fast forms.
    """
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return softmax_mean(scores, values)


def softmax_mean(scores: Tensor, values: Tensor) -> Tensor:
    """Return the mean [..., n, e] of ``values`` [..., m, e] weighed by softmax of ``scores``."""
    return torch.softmax(scores, dim=-1) @ values


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Turn [..., n, n_heads * d] into [..., n_heads, n, d]."""
    return x.reshape(*x.shape[:-1], n_heads, -1).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """Turn [..., n_heads, n, d] into [..., n, n_heads * d]."""
    return x.transpose(-3, -2).flatten(-2)
