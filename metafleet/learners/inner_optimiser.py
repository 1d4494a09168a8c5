"""Optimisers for inner steps: momentum, Adam and weight decay.

They use no in-place operations and do not branch on tensor values, so that a step can be
differentiated through, mapped and traced.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from metafleet.options import require
from metafleet.params import Params, named, parted

_MOMENT: Final = "moment"
_DIRECTION: Final = "direction"
_SQUARES: Final = "squares"
_WITH_MOMENTUM: Final = ("momentum", "nesterov", "adam", "adamw")
_ADAPTIVE: Final = ("adam", "adamw")
_DEFAULT_MOMENTUM: Final = 0.9
_DEFAULT_BETA2: Final = 0.999
_DEFAULT_EPSILON: Final = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerOptimiserOptions:
    """Options of the optimiser of inner steps.

    Attributes:
        inner_optimiser: "sgd", "momentum", "nesterov", "adam" or "adamw".
        inner_momentum: momentum, or beta1 of Adam, in [0, 1). None means 0.9.
        inner_beta2: beta2 of Adam, in [0, 1). None means 0.999.
        inner_epsilon: Adam's epsilon, added to the root of the second moment, > 0. None means 1e-8.
        inner_weight_decay: weight decay, >= 0. "adamw" shrinks the parameters by it. All other
            optimisers add the product of weight decay and parameter to the gradient, which is an L2
            penalty.
    """

    inner_optimiser: Literal["sgd", "momentum", "nesterov", "adam", "adamw"] = "sgd"
    inner_momentum: float | None = None
    inner_beta2: float | None = None
    inner_epsilon: float | None = None
    inner_weight_decay: float = 0.0

    def __post_init__(self) -> None:
        name, decay = self.inner_optimiser, self.inner_weight_decay
        for option, takers in (
            ("inner_momentum", _WITH_MOMENTUM),
            ("inner_beta2", _ADAPTIVE),
            ("inner_epsilon", _ADAPTIVE),
        ):
            value = getattr(self, option)
            if value is None:
                continue
            needed = " or ".join(map(repr, takers))
            require(name in takers, option, value, f"inner_optimiser={needed}, not {name!r}")
            if option == "inner_epsilon":
                require(value > 0.0, option, value, "more than 0")
            else:
                require(0.0 <= value < 1.0, option, value, "0 or more and less than 1")
        require(decay >= 0.0, "inner_weight_decay", decay, "0 or more")


@dataclass(frozen=True, slots=True)
class InnerOptimiser:
    """An optimiser of inner steps.

    "adam" is algorithm 1 of Kingma and Ba 2015, arXiv:1412.6980. "adamw" decays weights as in
    algorithm 2 of Loshchilov and Hutter 2019, arXiv:1711.05101. "momentum" is defined as in torch,
    v' = momentum * v + gradient. "nesterov" moves along gradient + momentum * v'.

    Attributes:
        name, momentum, beta2, epsilon: as in ``InnerOptimiserOptions``.
        weight_decay: weight decay of "adamw". For other optimisers, the function ``with_decay``
            applies weight decay.
    """

    name: str
    momentum: float
    beta2: float
    epsilon: float
    weight_decay: float

    @classmethod
    def of(
        cls, own: InnerOptimiserOptions, *, momentum: float = _DEFAULT_MOMENTUM
    ) -> "InnerOptimiser | None":
        """Make the optimiser of ``own``, None for "sgd"; ``momentum`` is used if they have None."""
        if own.inner_optimiser == "sgd":
            return None
        return cls(
            own.inner_optimiser,
            momentum if own.inner_momentum is None else own.inner_momentum,
            _DEFAULT_BETA2 if own.inner_beta2 is None else own.inner_beta2,
            _DEFAULT_EPSILON if own.inner_epsilon is None else own.inner_epsilon,
            own.inner_weight_decay,
        )

    def step(
        self,
        fast: Params,
        grads: Mapping[str, Tensor],
        index: int,
        rate: Callable[[str], float | Tensor],
    ) -> Params:
        """Return the weights and moments after step ``index``, counted from 0.

        Args:
            fast: the weights. From the second step on, this includes the moments that the previous
                step returned.
            grads: a gradient for each weight.
            index: index of the step.
            rate: a function from the name of a weight to its step size, which is a number or a
                tensor of the weight's shape.
        """
        moments = parted(fast, _MOMENT)
        moved: Params = {}
        for name, weight in without_moments(fast).items():
            own = {
                kind: moments[f"{kind}.{name}"]
                for kind in (_DIRECTION, _SQUARES)
                if f"{kind}.{name}" in moments
            }
            moved[name], kept = self._one(weight, grads[name], own, index, rate(name))
            moved |= named(_MOMENT, {f"{kind}.{name}": value for kind, value in kept.items()})
        return moved

    def _one(
        self, weight: Tensor, grad: Tensor, own: Params, index: int, rate: float | Tensor
    ) -> tuple[Tensor, Params]:
        if weight.is_complex():  # treat it as two real numbers, as torch's optimisers do
            each = rate.unsqueeze(-1) if isinstance(rate, Tensor) else rate
            real, kept = self._one(
                torch.view_as_real(weight), torch.view_as_real(grad), own, index, each
            )
            return torch.view_as_complex(real), kept
        if self.name in _ADAPTIVE:
            return self._adam(weight, grad, own, index, rate)
        direction = self.momentum * own[_DIRECTION] + grad if own else grad
        way = grad + self.momentum * direction if self.name == "nesterov" else direction
        return weight - rate * way, {_DIRECTION: direction}

    def _adam(
        self, weight: Tensor, grad: Tensor, own: Params, index: int, rate: float | Tensor
    ) -> tuple[Tensor, Params]:
        if self.weight_decay > 0.0 and self.name == "adamw":
            weight = weight - rate * self.weight_decay * weight
        squares = (1.0 - self.beta2) * grad.square()
        if own:
            squares = self.beta2 * own[_SQUARES] + squares
        # The square root has no derivative at 0. Clamping to the smallest number does not change
        # the sum.
        least = torch.finfo(squares.dtype).tiny
        unbiased = squares / (1.0 - self.beta2 ** (index + 1))
        spread = unbiased.clamp_min(least).sqrt() + self.epsilon
        if self.momentum == 0.0:
            return weight - rate * grad / spread, {_SQUARES: squares}
        direction = (1.0 - self.momentum) * grad
        if own:
            direction = self.momentum * own[_DIRECTION] + direction
        mean = direction / (1.0 - self.momentum ** (index + 1))
        return weight - rate * mean / spread, {_DIRECTION: direction, _SQUARES: squares}


def with_decay(
    options: InnerOptimiserOptions, weights: Params, grads: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Return the gradients plus weight decay; "adamw" decays the weights instead."""
    decay = options.inner_weight_decay
    if decay == 0.0 or options.inner_optimiser == "adamw":
        return grads
    return {name: grads[name] + decay * weight for name, weight in weights.items()}


def without_moments(fast: Mapping[str, Tensor]) -> Params:
    """Return the fast parameters without the optimiser's moments."""
    return {name: value for name, value in fast.items() if not name.startswith(f"{_MOMENT}.")}
