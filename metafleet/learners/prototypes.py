"""Class prototypes and distances to them."""

import torch
from torch import Tensor

from metafleet.errors import ConfigError, DataError
from metafleet.problem import Problem


def class_means(features: Tensor, targets: Tensor, n_way: int) -> Tensor:
    """Return the mean feature of each class, [n_way, d].

    Args:
        features: [n, d].
        targets: [n] int64 in [0, n_way), in any order. Every class must occur (see
            ``require_each_class``).
        n_way: number of classes.

    Source: Snell et al. 2017, arXiv:1703.05175, eq. 1.
    """
    # a product with one-hot rows sums in the same order on every device; index_add_ may not
    membership = one_hot(targets, n_way, features)
    return (membership.T @ features) / membership.sum(dim=0)[:, None]


def one_hot(targets: Tensor, n_way: int, like: Tensor) -> Tensor:
    """Return one-hot rows [n, n_way] in the dtype of ``like``.

    Unlike ``F.one_hot``, this function does not read tensor values, so it can be mapped over
    episodes.
    """
    return (targets[:, None] == torch.arange(n_way, device=targets.device)).to(like.dtype)


def require_each_class(targets: Tensor, n_way: int) -> None:
    """Check that a support set has every class.

    Raises:
        DataError: a class is missing; the message names the first missing class.
    """
    counts = torch.bincount(targets, minlength=n_way)
    if not bool((counts > 0).all()):
        absent = torch.nonzero(counts == 0).flatten().tolist()
        raise DataError(
            f"the support set has no example of class {absent[0]} of {n_way}; "
            "give at least one of each class"
        )


def squared_distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return squared Euclidean distances [n, n_way] of features [n, d] to prototypes [n_way, d].

    The mean of the prototypes is first subtracted from features and prototypes. Without this
    subtraction, features with a large common offset, such as times of day, would lose digits in the
    difference of large squares.
    """
    centre = prototypes.mean(dim=0)
    features, prototypes = features - centre, prototypes - centre
    products = features @ prototypes.T
    squares = features.square().sum(dim=1)[:, None] + prototypes.square().sum(dim=1)
    return squares - 2.0 * products


def prototype_logits(support: Tensor, targets: Tensor, query: Tensor, n_way: int) -> Tensor:
    """Return minus the squared distances [n, n_way] of ``query`` [n, d] to the class means.

    Args:
        support: features [m, d].
        targets: classes of the support set, [m] int64 in [0, n_way), each at least once.
        query: features [n, d].
        n_way: number of classes.

    Source: Snell et al. 2017, arXiv:1703.05175, eq. 1 and 2.
    """
    return -squared_distances(query, class_means(support, targets, n_way))


def require_classification(problem: Problem, learner: str) -> None:
    """Check that the data are for classification.

    Raises:
        ConfigError: the targets are not classes.
    """
    if problem.is_regression:
        raise ConfigError(
            f"learner {learner!r} classifies but the data have target_dim={problem.target_dim}; "
            "choose learner 'maml' or data with classes"
        )
