"""Dot-product attention from matrix products and a softmax; it can be differentiated twice."""

import math

import torch
from torch import Tensor


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Return the mean of ``values`` for each query, weighted by softmax(q k / sqrt(d)).

    Args:
        queries: [..., n, d].
        keys: [..., m, d].
        values: [..., m, e].
        mask: bool [n, m], True where a query may attend to a key. Every row needs at least one
            True. None allows every query to attend to every key.

    Returns:
        [..., n, e].

    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1. torch's ``scaled_dot_product_attention``
    is not used, because its fast kernels have no double backward.
    """
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return softmax_mean(scores, values)


def softmax_mean(scores: Tensor, values: Tensor) -> Tensor:
    """Return the mean [..., n, e] of ``values`` [..., m, e], weighted by softmax of ``scores``."""
    return torch.softmax(scores, dim=-1) @ values


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Reshape [..., n, n_heads * d] to [..., n_heads, n, d]."""
    return x.reshape(*x.shape[:-1], n_heads, -1).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """Reshape [..., n_heads, n, d] to [..., n, n_heads * d]."""
    return x.transpose(-3, -2).flatten(-2)
