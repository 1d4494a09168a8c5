"""Classifiers that are fitted in closed form, or by a few Newton steps, and differentiated."""

import torch
from torch import Tensor


def ridge_weights(features: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """Return W [d, c] that minimises |X W - Y|^2 + penalty |W|^2.

    W = X^T (X X^T + penalty I)^-1 Y: by Woodbury's identity a system of the few examples instead of
    the many features.

    Args:
        features: X [n, d].
        targets: Y [n, c].
        penalty: a scalar > 0.

    Source: Bertinetto et al. 2019, arXiv:1805.08136, eq. 6.
    """
    gram = features @ features.T
    eye = torch.eye(len(features), dtype=features.dtype, device=features.device)
    dual: Tensor = torch.linalg.solve(gram + penalty * eye, targets)
    return features.T @ dual


def logistic_weights(features: Tensor, targets: Tensor, penalty: Tensor, *, n_steps: int) -> Tensor:
    """Return W [d, c] after Newton steps on logistic regression, one class against the rest.

    From w = 0, iterates reweighted least squares: w' = X^T (X X^T + penalty diag(s)^-1)^-1 z,
    mu = sigmoid(X w), s = mu (1 - mu), z = X w + (y - mu) / s.

    Args:
        features: X [n, d].
        targets: Y [n, c] of zeros and ones.
        penalty: a scalar > 0.
        n_steps: >= 1.

    Source: Bertinetto et al. 2019, arXiv:1805.08136, eq. 8 to 10.
    """
    gram = features @ features.T
    scores = dual = torch.zeros_like(targets)
    for _ in range(n_steps):
        mu = torch.sigmoid(scores)
        # a curvature of 0 would divide by it; sigmoids of single precision reach 1 at 17
        curvature = (mu * (1.0 - mu)).clamp(min=1e-6)
        responses = scores + (targets - mu) / curvature
        # one system for each class: [c, n, n] and [c, n, 1]
        systems = gram + torch.diag_embed((penalty / curvature).T)
        dual = torch.linalg.solve(systems, responses.T[..., None])[..., 0].T
        scores = gram @ dual
    return features.T @ dual
