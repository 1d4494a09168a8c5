"""LP++: a linear probe whose weights blend prototypes of the examples with names of classes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.prototypes import one_hot
from metafleet.learners.text_head import TEXTS, TextHead, unit
from metafleet.options import require, require_steps
from metafleet.params import Params

_WEIGHTS = "weights"
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class LpPlusPlusOptions:
    """Options of ``LpPlusPlus``. There is no ``scale``, because the weights are fitted.

    Attributes:
        steps: number of steps on the prototypes w, >= 0. With 0, the weights stay at their
            initial values.
        text_every: number of steps on w for each step on the multipliers alpha, >= 1.
        text_init: number > 0. The initial multiplier of the names is this number times the mean
            cosine between examples and the names of their classes. The authors' code uses 250.
    """

    steps: int = 300
    text_every: int = 10
    text_init: float = 250.0

    def __post_init__(self) -> None:
        require_steps("steps", self.steps, least=0)
        require(self.text_every >= 1, "text_every", self.text_every, "1 or more")
        is_finite = 0.0 < self.text_init < float("inf")
        require(is_finite, "text_init", self.text_init, "a finite number above 0")


class LpPlusPlus(TextHead[LpPlusPlusOptions]):
    """Fit logistic regression with the logits f(x) (w_k + alpha_k t_k).

    Here f(x) are the features of an item x, and t_k are the features of the name of class k. Both
    have length 1. The method of block coordinate Majorize-Minimize (see ``blended_weights``)
    chooses the prototypes w_k and the multipliers alpha_k. It reduces the mean cross-entropy of the
    support set, and needs no step size.

    Source: Huang et al. 2024, arXiv:2404.02285, section 3.
    """

    name: ClassVar[str] = "lp_plus_plus"
    Options: ClassVar[type] = LpPlusPlusOptions

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the weights [n_way, d], computed in float64."""
        features = support.double()
        classes = one_hot(targets, context.n_way, features)
        weights = blended_weights(features, classes, params[TEXTS].double(), self.options)
        return {_WEIGHTS: weights.to(support.dtype)}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the outputs of the linear map."""
        return unit(query) @ fitted[_WEIGHTS].T


def blended_weights(
    features: Tensor, classes: Tensor, texts: Tensor, options: LpPlusPlusOptions
) -> Tensor:
    """Return w_k + alpha_k t_k for each class, [n_way, d].

    The initial values are approximate minima in closed form. w_k is the sum of the features of the
    examples of class k. All alpha_k start at the same number: ``text_init`` times the mean over the
    classes of c_k, but at least 0. Here c_k is the mean of f(x) t_k over the examples of class k.

    One block consists of all w_k. The other block consists of all alpha_k. A step on a block
    minimises a quadratic upper bound of the loss, so it is a gradient step of size 1 / L. Because p
    (1 - p) <= 1/4 for a probability p, the gradients with respect to one w_k and one alpha_k have
    Lipschitz constants of at most

        L_w     = lambda_max(F^T F) / (4 N)
        L_alpha = max_k sum_i (f_i t_k)^2 / (4 N)

    A step changes all classes at once. The gradient with respect to a whole block has a Lipschitz
    constant of at most 2 L. With this Lipschitz constant, a step of size 1 / L never increases the
    loss.

    Args:
        features: F [N, d], rows of length 1.
        classes: one-hot classes [N, n_way].
        texts: t [n_way, d], rows of length 1.
        options: the numbers of steps, and the initial multiplier.

    Source: Huang et al. 2024, arXiv:2404.02285, section 3. The mean over the classes in the initial
    alpha is from the authors' code. The authors' code also has momentum and a bias, which this
    function omits.
    """
    similar = features @ texts.T  # [N, n_way]
    own = (classes * similar).sum(dim=0) / classes.sum(dim=0)
    # a negative multiplier would prefer the wrong names
    alpha = options.text_init * own.mean().clamp(min=0.0) * torch.ones_like(own)
    prototypes = classes.T @ features
    step = 4.0 / _largest_eigenvalue(features).clamp(min=_TINY)
    text_step = 4.0 / similar.square().sum(dim=0).max().clamp(min=_TINY)
    for number in range(1, options.steps + 1):
        excess = _excess(features, prototypes, alpha * similar, classes)
        prototypes = prototypes - step * (excess.T @ features)
        if number % options.text_every == 0:
            excess = _excess(features, prototypes, alpha * similar, classes)
            alpha = alpha - text_step * (excess * similar).sum(dim=0)
    return prototypes + alpha[:, None] * texts


def _excess(features: Tensor, prototypes: Tensor, of_texts: Tensor, classes: Tensor) -> Tensor:
    """Return the probabilities minus the one-hot classes, [N, n_way]."""
    return torch.softmax(features @ prototypes.T + of_texts, dim=1) - classes


def _largest_eigenvalue(features: Tensor) -> Tensor:
    """Return the largest eigenvalue of F^T F, from the smaller of F^T F and F F^T."""
    n, d = features.shape
    gram = features @ features.T if n <= d else features.T @ features
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values[-1]
