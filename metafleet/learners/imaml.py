"""MAML with implicit gradients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.learners.base import QueryGradient
from metafleet.learners.context import EpisodeContext
from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.options import require, require_steps
from metafleet.params import Params, dot
from metafleet.purity.hidden_state import HiddenState


@dataclass(frozen=True, slots=True)
class ImamlOptions(MamlOptions):
    """Options of ``Imaml``.

    Attributes:
        inner_lr: step size alpha of the adaptation, > 0.
        proximity: lambda, the weight of the penalty on the distance of the adapted parameters from
            their start, > 0.
        cg_steps: steps of the conjugate gradient method, >= 1.
        first_order: must be false, because implicit gradients never differentiate the inner steps.
        inner_weight_decay: must be 0, because ``proximity`` regularises the parameters.
    """

    inner_steps: int = 16
    inner_lr: float = 0.1
    proximity: float = 2.0
    cg_steps: int = 5

    def __post_init__(self) -> None:
        MamlOptions.__post_init__(self)
        require(self.proximity > 0.0, "proximity", self.proximity, "more than 0")
        require_steps("cg_steps", self.cg_steps)
        decay = self.inner_weight_decay
        require(decay == 0.0, "inner_weight_decay", decay, "0: proximity holds the parameters")
        require(not self.first_order, "first_order", True, "false, or learner 'maml'")


class Imaml(MamlSteps[ImamlOptions]):
    """Learn an initialisation theta. Each episode solves a problem with a penalty around theta.

    L_S is the loss on the support set, and L_Q is the loss on the query set. Gradient steps
    approximate the solution phi = argmin L_S(phi) + lambda / 2 |phi - theta|^2. The meta-gradient
    is (I + H / lambda)^-1 grad L_Q(phi), where H is the Hessian of L_S at phi. The method of
    conjugate gradients approximates this product. The memory that an episode needs does not grow
    with the number of inner steps.

    Source: Rajeswaran et al. 2019, arXiv:1909.04630, eq. 3 and 6, algorithms 1 and 2. The defaults
    are those of the authors' Omniglot experiments.
    """

    name: ClassVar[str] = "imaml"
    Options: ClassVar[type] = ImamlOptions

    def is_first_order(self, context: EpisodeContext) -> bool:
        """Return True, because the inner steps are not differentiated."""
        return True

    def slope(
        self, params: Params, fast: Params, grads: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return the gradient of the proximal problem."""
        weight = self.options.proximity
        return {name: grads[name] + weight * (phi - params[name]) for name, phi in fast.items()}

    def meta_gradient(
        self, params: Params, support: ExampleSet, query: ExampleSet, context: EpisodeContext
    ) -> QueryGradient:
        """Adapt, differentiate the query loss at phi, and solve for the meta-gradient."""
        phi = self.adapted(params, support, context)

        def query_loss(own: Params) -> tuple[Tensor, Tensor]:
            outputs = self.adapted_outputs(params, own, support, query.inputs, context)
            return self.loss(outputs, query.targets), outputs

        grads, loss, outputs = context.grad_aux(query_loss, phi, create_graph=False)
        context.normalise = context.norm.support
        again = self._again(phi, context)

        def curved(direction: Params) -> Params:
            """Return (I + H / lambda) times ``direction``; random draws are the same each time."""
            again()
            products = self._hessian_product(params, phi, direction, support, context)
            return {n: d + products[n] / self.options.proximity for n, d in direction.items()}

        solved = self._solve(curved, grads)
        again()
        return QueryGradient(solved, loss, outputs)

    def _again(self, phi: Params, context: EpisodeContext) -> Callable[[], None]:
        """Return a function that restores the model's hidden state to its current value."""
        if context.is_traced or not phi:
            return lambda: None  # a traced model has no hidden state
        hidden = HiddenState(self, devices=[next(iter(phi.values())).device])
        now = hidden.capture()
        return lambda: hidden.restore(now)

    def _hessian_product(
        self,
        params: Params,
        phi: Params,
        direction: Params,
        support: ExampleSet,
        context: EpisodeContext,
    ) -> Params:
        def slope(own: Params) -> Tensor:
            grads, _ = context.grad(
                lambda inner: self.support_loss(params, inner, support, context),
                own,
                create_graph=True,
            )
            return dot(grads, direction)

        products, _ = context.grad(slope, phi, create_graph=False)
        return products

    def _solve(self, curved: Callable[[Params], Params], given: Params) -> Params:
        """Solve curved(x) = given by conjugate gradients from x = 0 (Hestenes and Stiefel 1952)."""
        x = {name: torch.zeros_like(value) for name, value in given.items()}
        rest, direction, size = given, given, dot(given, given)
        for _ in range(self.options.cg_steps):
            image = curved(direction)
            # Stop if the residual is zero, because the solution is exact. Stop also at negative
            # curvature, where a further step would lead away from the solution.
            curvature = dot(direction, image)
            rate = torch.where(curvature > 0.0, size / curvature, 0.0)
            x = {n: v + rate * direction[n] for n, v in x.items()}
            rest = {n: v - rate * image[n] for n, v in rest.items()}
            before, size = size, dot(rest, rest)
            share = torch.where(before > 0.0, size / before, 0.0)
            direction = {n: rest[n] + share * v for n, v in direction.items()}
        return x
