"""Meta-Curvature: gradients transformed by learned matrices, one for each mode of a tensor."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.params import MetaState, Params

_PREFIX = "curvature."


@dataclass(frozen=True, slots=True)
class MetaCurvatureOptions(MamlOptions):
    """Options of ``MetaCurvature``: those of MAML, with one step as in the paper."""

    inner_steps: int = 1


class MetaCurvature(MamlSteps[MetaCurvatureOptions]):
    """Learn an initialisation theta and a transformation MC of its gradient.

    theta' = theta - alpha * MC(grad L_S(theta)). Let G be the gradient of a convolution's weight
    with flattened filters, a tensor [C_out, C_in, d]. Then MC(G) = G x_3 M_f x_2 M_i x_1 M_o, where
    x_n is the n-mode product. The matrices M_o [C_out, C_out], M_i [C_in, C_in] and M_f [d, d] are
    learned. For the gradient G of a linear layer's weight, MC(G) = M_o G M_i^T. The paper does not
    mention biases and scales. Their gradients are vectors, which are multiplied element-wise by
    learned factors. All matrices start as the identity, so that training starts as MAML. In the
    state, the matrices of parameter "x" are "curvature.x.out", ".in" and ".filter".

    Source: Park and Oliva 2019, arXiv:1902.03356, section 3.2, "MC2", eq. 7.
    """

    name: ClassVar[str] = "meta_curvature"
    Options: ClassVar[type] = MetaCurvatureOptions
    takes_several_labels: ClassVar[bool] = True
    takes_losses: ClassVar[bool] = True

    def init_state(self, seed: int) -> MetaState:
        """Draw theta; every transformation starts as the identity."""
        state = super().init_state(seed)
        learned: Params = {}
        for name, value in state.params.items():
            learned |= {f"{_PREFIX}{name}.{side}": m for side, m in _identity(value).items()}
        return MetaState(state.params | learned, state.buffers)

    def adapting(self, params: Params) -> Params:
        """Return theta."""
        return {name: value for name, value in params.items() if not name.startswith(_PREFIX)}

    def slope(
        self, params: Params, fast: Params, grads: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return MC(grad)."""
        return {name: _transform(params, name, grad) for name, grad in grads.items()}


def _identity(value: Tensor) -> Params:
    """Return identity matrices for the modes of a parameter [c_out, c_in, ...] or [c_out]."""
    if value.dim() < 2:
        return {"out": torch.ones_like(value, dtype=value.dtype.to_real())}
    sides = {"out": torch.eye(value.shape[0]), "in": torch.eye(value.shape[1])}
    if value.dim() > 2:
        sides["filter"] = torch.eye(math.prod(value.shape[2:]))
    return sides


def _transform(params: Mapping[str, Tensor], name: str, grad: Tensor) -> Tensor:
    """Return MC(grad), in the shape of ``grad``."""
    key = f"{_PREFIX}{name}"
    if grad.dim() < 2:
        return params[f"{key}.out"] * grad
    # the matrices are real even if the gradient is complex
    outer, inner = (params[f"{key}.{side}"].to(grad.dtype) for side in ("out", "in"))
    if grad.dim() == 2:
        mixed = grad @ inner.T
    else:
        mixed = inner @ (grad.flatten(2) @ params[f"{key}.filter"].to(grad.dtype).T)
    return (outer @ mixed.flatten(1)).reshape(grad.shape)
