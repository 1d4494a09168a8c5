"""Meta-learning with closed-form solvers: ridge and logistic regression on embeddings."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import one_hot
from metafleet.options import require, require_steps
from metafleet.params import Params

_WEIGHTS = "weights"
_MOST_NUMBERS = 2**24
"""Maximum numbers in the linear systems that are solved together, unless one alone has more."""


@dataclass(frozen=True, slots=True)
class R2d2Options:
    """Options of ``R2d2``.

    Attributes:
        head: "ridge" selects ridge regression (R2-D2). "logistic" selects logistic regression of
            each class against the rest (LR-D2).
        penalty: initial value of the learned lambda, > 0.
        scale: initial value of the learned factor for the head's outputs, > 0.
        newton_steps: Newton steps of the logistic head, >= 1.
    """

    head: Literal["ridge", "logistic"] = "ridge"
    penalty: float = 1.0
    scale: float = 1.0
    newton_steps: int = 5

    def __post_init__(self) -> None:
        require(self.penalty > 0, "penalty", self.penalty, "more than 0")
        require(self.scale > 0, "scale", self.scale, "more than 0")
        require_steps("newton_steps", self.newton_steps)


class R2d2(MetricLearner[R2d2Options]):
    """Learn an embedding f on which a linear classifier is fitted to each support set.

    The ridge head is W = X^T (X X^T + lambda I)^-1 Y. The rows of X are f(x) of the support
    examples, and the rows of Y are their one-hot classes. The logits of a query x are alpha f(x) W.
    The scalars lambda and alpha are learned. The learned parameter for lambda is its logarithm. The
    paper's scalar beta, added to all logits, is omitted because it cancels in the softmax.

    Source: Bertinetto et al. 2019, arXiv:1805.08136, eq. 6, 7 and 8 to 10.
    """

    name: ClassVar[str] = "r2d2"
    Options: ClassVar[type] = R2d2Options

    def init_comparison(self, seed: int) -> Params:
        """Return the initial lambda and alpha."""
        return {
            "ridge.log_penalty": torch.tensor([self.options.penalty]).log(),
            "ridge.scale": torch.tensor([self.options.scale]),
        }

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the head's weights, [d, n_way]."""
        penalty = params["ridge.log_penalty"].exp()
        classes = one_hot(targets, context.n_way, support)
        if self.options.head == "ridge":
            return {_WEIGHTS: ridge_weights(support, classes, penalty)}
        n_steps = self.options.newton_steps
        return {_WEIGHTS: logistic_weights(support, classes, penalty, n_steps=n_steps)}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the head's scaled outputs."""
        return params["ridge.scale"] * (query @ fitted[_WEIGHTS])


def ridge_weights(features: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """Return W [d, c] that minimises |X W - Y|^2 + penalty |W|^2.

    W = X^T (X X^T + penalty I)^-1 Y. If there are more examples (n) than features (d), the same W
    is computed as (X^T X + penalty I)^-1 X^T Y. The linear system therefore has at most min(n, d)
    unknowns.

    Args:
        features: X [n, d].
        targets: Y [n, c].
        penalty: a scalar > 0.

    Source: Bertinetto et al. 2019, arXiv:1805.08136, eq. 6.
    """
    n, d = features.shape
    eye = torch.eye(min(n, d), dtype=features.dtype, device=features.device)
    if n > d:
        primal: Tensor = torch.linalg.solve(
            features.T @ features + penalty * eye, features.T @ targets
        )
        return primal
    dual: Tensor = torch.linalg.solve(features @ features.T + penalty * eye, targets)
    return features.T @ dual


def logistic_weights(features: Tensor, targets: Tensor, penalty: Tensor, *, n_steps: int) -> Tensor:
    """Return W [d, c] after Newton steps on logistic regression, one class against the rest.

    The method is iteratively reweighted least squares. For each class, let w be a column of W and y
    a column of Y. The first step starts from w = 0. A step replaces w by w' = X^T (X X^T + penalty
    diag(s)^-1)^-1 z, where mu = sigmoid(X w), s = mu (1 - mu), and z = X w + (y - mu) / s. If there
    are more examples (n) than features (d), the same w' is computed as (X^T diag(s) X + penalty
    I)^-1 X^T diag(s) z. If there are many classes, they are fitted in several groups, to limit the
    memory.

    Args:
        features: X [n, d].
        targets: Y [n, c] of zeros and ones.
        penalty: a scalar > 0.
        n_steps: number of Newton steps, >= 1.

    Source: Bertinetto et al. 2019, arXiv:1805.08136, eq. 8 to 10.
    """
    n, d = features.shape
    fit = _primal_logistic if n > d else _dual_logistic
    n_together = max(1, _MOST_NUMBERS // max(1, n * min(n, d)))
    parts = torch.split(targets, n_together, dim=1)
    return torch.cat([fit(features, part, penalty, n_steps) for part in parts], dim=1)


def _dual_logistic(features: Tensor, targets: Tensor, penalty: Tensor, n_steps: int) -> Tensor:
    gram = features @ features.T
    scores = dual = torch.zeros_like(targets)
    for _ in range(n_steps):
        mu, curvature = _curved(scores)
        responses = scores + (targets - mu) / curvature
        # one system for each class: [c, n, n] and [c, n, 1]
        systems = gram + torch.diag_embed((penalty / curvature).T)
        dual = torch.linalg.solve(systems, responses.T[..., None])[..., 0].T
        scores = gram @ dual
    return features.T @ dual


def _primal_logistic(features: Tensor, targets: Tensor, penalty: Tensor, n_steps: int) -> Tensor:
    ridge = penalty * torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    scores = torch.zeros_like(targets)
    weights = features.T @ scores
    for _ in range(n_steps):
        mu, curvature = _curved(scores)
        responses = features.T @ (curvature * scores + targets - mu)
        # one system for each class: [c, d, d] and [c, d, 1]
        systems = features.T @ (curvature.T[..., None] * features) + ridge
        weights = torch.linalg.solve(systems, responses.T[..., None])[..., 0].T
        scores = features @ weights
    return weights


def _curved(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return mu and s."""
    mu = torch.sigmoid(scores)
    # avoid a division by 0: in single precision, sigmoid(17) is exactly 1
    return mu, (mu * (1.0 - mu)).clamp(min=1e-6)
