"""Heads that fit a linear classifier to the support set, and have no parameters of their own."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.frozen_head import FrozenHead, HeadOptions
from metafleet.learners.prototypes import one_hot
from metafleet.learners.r2d2 import logistic_weights, ridge_weights
from metafleet.options import require
from metafleet.params import Params

_LEAST, _MOST = 1e-3, 1e6
_NEWTON_STEPS = 12
"""Enough to converge for the least penalty, as rows have length 1; half as many for 0.01."""


@dataclass(frozen=True, slots=True)
class RidgeOptions(HeadOptions):
    """Options of ``Ridge``.

    Attributes:
        penalty: the weight lambda of the L2 penalty, 1e-3 to 1e6.
    """

    penalty: float = 0.3

    def __post_init__(self) -> None:
        HeadOptions.__post_init__(self)
        _check_penalty(self.penalty)


@dataclass(frozen=True, slots=True)
class LogisticOptions(HeadOptions):
    """Options of ``Logistic``.

    Attributes:
        penalty: the weight lambda of the L2 penalty, 1e-3 to 1e6.
    """

    temperature: float = 1.0
    penalty: float = 0.01

    def __post_init__(self) -> None:
        HeadOptions.__post_init__(self)
        _check_penalty(self.penalty)


LinearT = TypeVar("LinearT", bound=HeadOptions)


class LinearHead(FrozenHead[LinearT], Generic[LinearT]):
    """A linear map of features that are centred and scaled to length 1, fitted in float64.

    The logits are u(x) W divided by the temperature. ``CosinePrototypes`` defines u(x).
    """

    @abstractmethod
    def weights_of(self, known: Tensor, classes: Tensor) -> Tensor:
        """Return W [d, n_way] for float64 rows u(x) [m, d] and one-hot classes [m, n_way]."""

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the centre [d] and weights [d, n_way]."""
        centre = self.centre_of(support, targets, context)
        known = self.directions(support, centre).values.double()
        weights = self.weights_of(known, one_hot(targets, context.n_way, known))
        return {"centre": centre, "weights": weights.to(support.dtype)}

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Return the outputs of the linear map, divided by the temperature."""
        asked = self.directions(query, fitted["centre"]).values
        return (asked @ fitted["weights"]) / self.options.temperature


class Ridge(LinearHead[RidgeOptions]):
    """Fit ridge regression of the classes in closed form.

    W minimises |U W - Y|^2 + lambda |W|^2. The rows of U are u(x) for the support examples x, and
    the rows of Y are the one-hot classes of the support examples. The learner ``r2d2`` uses the
    same classifier, but learns lambda and an embedding.

    Source: Bertinetto et al. 2019, arXiv:1805.08136, eq. 6.
    """

    name: ClassVar[str] = "ridge"
    Options: ClassVar[type] = RidgeOptions

    def weights_of(self, known: Tensor, classes: Tensor) -> Tensor:
        """Solve the linear system."""
        return ridge_weights(known, classes, known.new_tensor(self.options.penalty))


class Logistic(LinearHead[LogisticOptions]):
    """Fit logistic regression, each class against the rest, by Newton's method.

    For each class, the fit minimises the sum of log(1 + exp(-y u(x) w)) over the support examples,
    plus lambda / 2 |w|^2. Here w is the weight vector of the class, and y is +1 for examples of the
    class and -1 for all other examples. The learner ``r2d2`` with ``head = "logistic"`` does the
    same with a learned lambda.

    Source: Bertinetto et al. 2019, arXiv:1805.08136, eq. 8 to 10.
    """

    name: ClassVar[str] = "logistic"
    Options: ClassVar[type] = LogisticOptions

    def weights_of(self, known: Tensor, classes: Tensor) -> Tensor:
        """Take Newton steps until they have converged."""
        penalty = known.new_tensor(self.options.penalty)
        return logistic_weights(known, classes, penalty, n_steps=_NEWTON_STEPS)


def _check_penalty(penalty: float) -> None:
    require(_LEAST <= penalty <= _MOST, "penalty", penalty, f"{_LEAST:g} to {_MOST:g}")
