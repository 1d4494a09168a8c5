"""Inner steps by momentum, Adam and weight decay are those of torch, and are differentiated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import higher
import pytest
import torch
import torch.nn.functional as F
import torchopt
from torch import Tensor, nn
from torch.func import functional_call

from metafleet import MetaLearner
from metafleet.errors import ConfigError
from metafleet.execution import Strategy, make_execution
from metafleet.execution.program_cache import ProgramCache
from metafleet.learners.registry import LEARNERS
from tests.unit.metafleet.execution.test_agreement import assert_same
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    classification_episode,
    make_learner,
    random_state,
    regression_episode,
)
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences
from tests.unit.metafleet.learners.small import HAVING_FIRST_ORDER, made
from tests.unit.metafleet.script.modules import dense_net, vector_episode

LR = 0.05
DECAY = 0.03
KINDS: dict[str, dict[str, Any]] = {
    "decay": {"inner_weight_decay": DECAY},
    "momentum": {"inner_optimiser": "momentum"},
    "nesterov": {
        "inner_optimiser": "nesterov",
        "inner_momentum": 0.7,
        "inner_weight_decay": DECAY,
    },
    "adam": {"inner_optimiser": "adam", "inner_epsilon": 1e-3},
    "adam with decay": {
        "inner_optimiser": "adam",
        "inner_momentum": 0.8,
        "inner_beta2": 0.95,
        "inner_epsilon": 1e-4,
        "inner_weight_decay": DECAY,
    },
    "adamw": {"inner_optimiser": "adamw", "inner_epsilon": 1e-3, "inner_weight_decay": DECAY},
}
Params = dict[str, Tensor]


def of_torch(kind: str, params: Any) -> torch.optim.Optimizer:
    options = KINDS[kind]
    decay = options.get("inner_weight_decay", 0.0)
    name = options.get("inner_optimiser", "sgd")
    if name in ("adam", "adamw"):
        make = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        betas = (options.get("inner_momentum", 0.9), options.get("inner_beta2", 0.999))
        return make(params, lr=LR, betas=betas, eps=options["inner_epsilon"], weight_decay=decay)
    momentum = 0.0 if name == "sgd" else options.get("inner_momentum", 0.9)
    is_nesterov = name == "nesterov"
    return torch.optim.SGD(
        params, lr=LR, momentum=momentum, nesterov=is_nesterov, weight_decay=decay
    )


def of_torchopt(kind: str) -> Any:
    options = KINDS[kind]
    decay = options.get("inner_weight_decay", 0.0)
    name = options.get("inner_optimiser", "sgd")
    if name in ("adam", "adamw"):
        make = torchopt.adam if name == "adam" else torchopt.adamw
        betas = (options.get("inner_momentum", 0.9), options.get("inner_beta2", 0.999))
        return make(lr=LR, betas=betas, eps=options["inner_epsilon"], weight_decay=decay)
    momentum = 0.0 if name == "sgd" else options.get("inner_momentum", 0.9)
    return torchopt.sgd(lr=LR, momentum=momentum, nesterov=name == "nesterov", weight_decay=decay)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_torch(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    grads = [torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(5)]
    param = nn.Parameter(weight.clone())
    torchs = of_torch(kind, [param])
    learner = made("maml", classification_episode(), TINY_CONV4, **{"inner_lr": LR} | KINDS[kind])
    fast = {"w": weight}

    for index, grad in enumerate(grads):
        param.grad = grad
        torchs.step()
        fast = learner.moved({}, fast, {"w": grad}, index)

        torch.testing.assert_close(fast["w"], param.detach(), rtol=1e-12, atol=1e-14)


def by_higher(module: nn.Module, episode: tuple[Tensor, ...], kind: str, steps: int) -> Params:
    support_x, support_y, query_x, query_y = episode
    inner = of_torch(kind, module.parameters())
    with higher.innerloop_ctx(module, inner, copy_initial_weights=False) as (fast, stepper):
        for _ in range(steps):
            stepper.step(F.cross_entropy(fast(support_x), support_y))
        loss = F.cross_entropy(fast(query_x), query_y)
        grads = torch.autograd.grad(loss, list(module.parameters()))
    return dict(zip(dict(module.named_parameters()), grads, strict=True))


def by_torchopt(module: nn.Module, episode: tuple[Tensor, ...], kind: str, steps: int) -> Params:
    support_x, support_y, query_x, query_y = episode
    first = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
    optimiser = torchopt.FuncOptimizer(of_torchopt(kind))
    fast = dict(first)
    for _ in range(steps):
        outputs = functional_call(module, fast, (support_x,))
        fast = optimiser.step(F.cross_entropy(outputs, support_y), fast)
    loss = F.cross_entropy(functional_call(module, fast, (query_x,)), query_y)
    return dict(zip(first, torch.autograd.grad(loss, list(first.values())), strict=True))


@pytest.mark.parametrize(
    ("kind", "peer"),
    [
        *((kind, by_torchopt) for kind in KINDS),
        # higher's Adam corrects the bias without epsilon
        *((kind, by_higher) for kind in KINDS if "adam" not in kind),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_meta_gradients_through_it_are_those_of_peers(
    kind: str, peer: Callable[..., Params]
) -> None:
    module = dense_net()
    episode = tuple(t.double() if t.is_floating_point() else t for t in vector_episode())
    expected = peer(module, episode, kind, 3)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}

    MetaLearner(
        module,
        "maml",
        optimiser=lambda p: torch.optim.SGD(p, lr=1.0),
        inner_lr=LR,
        inner_steps=3,
        **KINDS[kind],
    ).optimize([episode])

    for name, value in module.named_parameters():
        assert float(expected[name].abs().max()) > 1e-4
        # TorchOpt corrects Adam's bias in single precision
        rtol, atol = (1e-3, 1e-5) if "adam" in kind else (1e-7, 1e-9)
        torch.testing.assert_close(before[name] - value, expected[name], rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", HAVING_FIRST_ORDER)
@pytest.mark.parametrize("kind", ["nesterov", "adam with decay", "adamw"])
def test_each_learner_differentiates_through_it(name: str, kind: str) -> None:
    episode = classification_episode(seed=3)
    learner = made(name, episode, **KINDS[kind])
    assert_matches_finite_differences(learner, episode)


@pytest.mark.parametrize("how", ["vmap", "constant_memory"])
@pytest.mark.parametrize("name", ["maml", "anil", "maml_plus_plus", "mmaml"])
@pytest.mark.parametrize("kind", ["nesterov", "adam with decay", "adamw"])
def test_each_execution_gives_its_gradient(kind: str, name: str, how: str) -> None:
    episodes = [classification_episode(seed=50 + i) for i in range(2)]
    options = {"name": name, "inner_steps": 3, "inner_lr": 0.02} | KINDS[kind]
    learner = make_learner(episodes[0], model=TINY_CONV4, learner=options)
    state = random_state(learner)

    found = make_execution(how, learner).gradient(state, episodes)

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))


@pytest.mark.parametrize("kind", ["nesterov", "adam with decay", "adamw"])
def test_what_is_compiled_gives_its_gradient(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the operators are run one by one here: compiling them takes a minute
    monkeypatch.setattr(
        ProgramCache, "program", lambda self, graph, inputs: lambda given: graph(*given)
    )
    episodes = [regression_episode(seed=80 + i) for i in range(2)]
    options = {"name": "maml", "inner_steps": 2, "inner_lr": 0.02} | KINDS[kind]
    learner = make_learner(episodes[0], model={"name": "mlp", "hidden": [5]}, learner=options)
    state = random_state(learner)
    compiled = make_execution(Strategy("compiled", chunk=2), learner, cache_dir=tmp_path)

    found = compiled.gradient(state, episodes)

    assert_same(found, make_execution("autograd", learner).gradient(state, episodes))


def test_a_gradient_of_zero_has_a_derivative() -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        module[0].bias[0] = -1e3  # a unit that no example reaches
    before = {n: p.detach().clone() for n, p in module.named_parameters()}

    meta = MetaLearner(
        module, "maml", inner_lr=LR, inner_steps=2, inner_optimiser="adam", outer_lr=0.1
    )
    report = meta.optimize([vector_episode()])

    assert 0.0 < report.grad_norm < 1e3
    assert torch.equal(module[0].weight[0], before["0.weight"][0])


def test_moments_do_not_outlive_the_adaptation() -> None:
    x, y, *_ = vector_episode()
    for name in ("maml", "reptile"):
        meta = MetaLearner(dense_net(), name, inner_optimiser="adam", inner_steps=2)
        assert set(meta.adapt((x, y)).params) == {n for n, _ in meta.module.named_parameters()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maml", {"inner_optimiser": "rmsprop"}, "inner_optimiser='rmsprop'; expected one of"),
        (
            "maml",
            {"inner_momentum": 0.9},
            "inner_momentum=0.9; expected inner_optimiser='momentum' or 'nesterov' or 'adam' or "
            "'adamw', not 'sgd'",
        ),
        (
            "maml",
            {"inner_optimiser": "momentum", "inner_beta2": 0.9},
            "inner_beta2=0.9; expected inner_optimiser='adam' or 'adamw', not 'momentum'",
        ),
        (
            "anil",
            {"inner_optimiser": "momentum", "inner_momentum": 1.0},
            "inner_momentum=1.0; expected 0 or more and less than 1",
        ),
        (
            "meta_sgd",
            {"inner_optimiser": "adam", "inner_epsilon": 0.0},
            "inner_epsilon=0.0; expected more than 0",
        ),
        ("protomaml", {"inner_weight_decay": -1.0}, "inner_weight_decay=-1.0; expected 0 or more"),
        (
            "imaml",
            {"inner_weight_decay": 0.1},
            "inner_weight_decay=0.1; expected 0: proximity holds the parameters",
        ),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LEARNERS.resolve({"name": name, **options})
