"""Meta-gradients of random networks against those of higher and TorchOpt, in double precision."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import higher
import pytest
import torch
import torch.nn.functional as F
import torchopt
from torch import Tensor, nn
from torch.func import functional_call

from metafleet import MetaLearner

Plain = tuple[Tensor, Tensor, Tensor, Tensor]
Grads = dict[str, Tensor]
SEEDS = range(6)


@dataclass(frozen=True)
class Drawn:
    """A random network, an episode for it, and how to adapt."""

    module: nn.Module
    episode: Plain
    inner_lr: float
    inner_steps: int


def draw(seed: int) -> Drawn:
    """Draw a perceptron of any depth, or convolutions with batch norm, and 2 to 4 classes."""
    rng = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=rng))

    n_way, torch_seed = integer(2, 4), integer(0, 10**6)
    torch.manual_seed(torch_seed)
    activation = [nn.Tanh, nn.ReLU, nn.GELU, nn.Softplus][integer(0, 3)]
    layers: list[nn.Module] = []
    if seed % 2 == 0:
        shape: tuple[int, ...] = (integer(2, 6),)
        width = shape[0]
        for _ in range(integer(1, 3)):
            wider = integer(2, 7)
            layers += [nn.Linear(width, wider), activation()]
            width = wider
    else:
        shape = (integer(1, 2), 6, 6)
        channels = shape[0]
        for _ in range(integer(1, 2)):
            more = integer(2, 4)
            # its own statistics, in training and out of it: what both peers can follow
            norm = nn.BatchNorm2d(more, track_running_stats=False)
            layers += [nn.Conv2d(channels, more, 3, padding=1), norm, activation()]
            channels = more
        layers += [nn.AvgPool2d(2), nn.Flatten()]
        width = channels * 9
    module = nn.Sequential(*layers, nn.Linear(width, n_way)).double()
    means = torch.randn(n_way, *shape, generator=rng, dtype=torch.float64)

    def examples(per_class: int) -> tuple[Tensor, Tensor]:
        targets = torch.arange(n_way).repeat_interleave(per_class)
        noise = torch.randn(len(targets), *shape, generator=rng, dtype=torch.float64)
        return means[targets] + noise, targets

    episode = (*examples(integer(1, 3)), *examples(integer(1, 4)))
    inner_lr = math.exp(float(torch.rand((), generator=rng)) * 3.0 - 4.0)
    return Drawn(module, episode, inner_lr, integer(1, 4))


def by_higher(drawn: Drawn) -> Grads:
    """Differentiate through higher's unrolled optimiser."""
    support_x, support_y, query_x, query_y = drawn.episode
    module = drawn.module
    inner = torch.optim.SGD(module.parameters(), lr=drawn.inner_lr)
    with higher.innerloop_ctx(module, inner, copy_initial_weights=False) as (fast, stepper):
        for _ in range(drawn.inner_steps):
            stepper.step(F.cross_entropy(fast(support_x), support_y))
        loss = F.cross_entropy(fast(query_x), query_y)
        grads = torch.autograd.grad(loss, list(module.parameters()))
    return dict(zip(dict(module.named_parameters()), grads, strict=True))


def by_torchopt(drawn: Drawn) -> Grads:
    """Differentiate through TorchOpt's differentiable optimiser, on tensors."""
    support_x, support_y, query_x, query_y = drawn.episode
    first = {n: p.detach().clone().requires_grad_() for n, p in drawn.module.named_parameters()}
    optimiser = torchopt.FuncOptimizer(torchopt.sgd(lr=drawn.inner_lr))
    fast = dict(first)
    for _ in range(drawn.inner_steps):
        outputs = functional_call(drawn.module, fast, (support_x,))
        fast = optimiser.step(F.cross_entropy(outputs, support_y), fast)
    loss = F.cross_entropy(functional_call(drawn.module, fast, (query_x,)), query_y)
    return dict(zip(first, torch.autograd.grad(loss, list(first.values())), strict=True))


def by_metafleet(drawn: Drawn, algorithm: str = "maml", **options: object) -> Grads:
    """Read the meta-gradient off a step of gradient descent with rate 1."""
    before = {n: p.detach().clone() for n, p in drawn.module.named_parameters()}
    meta = MetaLearner(
        drawn.module, algorithm, optimiser=lambda p: torch.optim.SGD(p, lr=1.0), **options
    )
    meta.optimize([drawn.episode])
    found = {n: before[n] - p.detach() for n, p in drawn.module.named_parameters()}
    drawn.module.load_state_dict(before)
    return found


@pytest.mark.parametrize("peer", [by_higher, by_torchopt], ids=["higher", "torchopt"])
@pytest.mark.parametrize("seed", SEEDS)
def test_second_order_maml_of_random_networks(seed: int, peer: Callable[[Drawn], Grads]) -> None:
    drawn = draw(seed)

    found = by_metafleet(drawn, inner_lr=drawn.inner_lr, inner_steps=drawn.inner_steps)

    assert_same(found, peer(drawn))


@pytest.mark.parametrize("seed", SEEDS)
def test_anil_of_random_networks(seed: int) -> None:
    drawn = draw(seed)
    head = str(len(drawn.module) - 1)
    support_x, support_y, query_x, query_y = drawn.episode
    module = drawn.module
    inner = torch.optim.SGD(module[-1].parameters(), lr=drawn.inner_lr)
    with higher.innerloop_ctx(module[-1], inner, copy_initial_weights=False) as (fast, stepper):
        features = module[:-1](support_x)
        for _ in range(drawn.inner_steps):
            stepper.step(F.cross_entropy(fast(features), support_y))
        loss = F.cross_entropy(fast(module[:-1](query_x)), query_y)
        grads = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    expected = dict(zip(dict(module.named_parameters()), grads, strict=True))

    found = by_metafleet(
        drawn, "anil", head=head, inner_lr=drawn.inner_lr, inner_steps=drawn.inner_steps
    )

    assert_same(found, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_meta_sgd_of_random_networks(seed: int) -> None:
    drawn = draw(seed)
    rate = drawn.inner_lr
    # with one step size for all, theta's gradient is MAML's
    found = by_metafleet(
        drawn, "meta_sgd", inner_lr_min=rate, inner_lr_max=rate, inner_steps=drawn.inner_steps
    )

    assert_same(found, by_higher(drawn))


def assert_same(found: Grads, expected: Grads) -> None:
    assert found.keys() == expected.keys()
    total = torch.cat([g.flatten() for g in expected.values()]).norm()
    assert float(total) > 1e-4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-10, msg=name)
