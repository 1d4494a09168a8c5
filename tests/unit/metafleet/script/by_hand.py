"""What ``MetaLearner`` does, by hand."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from tests.unit.metafleet.script.modules import Plain

Loss = Callable[[Tensor, Tensor], Tensor]


def sgd(params) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=1.0)


def values_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def meta_gradient(module: nn.Module, episode: Plain, loss: Loss, *, steps: int, lr: float):
    """MAML by hand: the query loss after gradient steps, differentiated by torch.func."""
    support_x, support_y, query_x, query_y = (
        t.double() if t.is_floating_point() else t for t in episode
    )

    def adapted_loss(params):
        for _ in range(steps):
            slope = grad(lambda p: loss(functional_call(module, p, (support_x,)), support_y))(
                params
            )
            params = {n: p - lr * slope[n] for n, p in params.items()}
        return loss(functional_call(module, params, (query_x,)), query_y)

    return grad(adapted_loss)(values_of(module))
