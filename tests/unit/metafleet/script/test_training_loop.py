"""The training loop that users write first: a loss a batch, tasks one after the other."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metafleet import MetaLearner
from tests.unit.metafleet.script.by_hand import sgd, values_of
from tests.unit.metafleet.script.modules import (
    Batch,
    batches,
    conv_net,
    dense_net,
    image_episode,
    vector_episode,
)

LR = 0.1


def inner_of_torch(kind: str, params) -> torch.optim.Optimizer:
    if kind == "adam":
        return torch.optim.Adam(params, lr=LR)
    decay = 0.01 if kind == "nesterov" else 0.0
    return torch.optim.SGD(
        params, lr=LR, momentum=0.9 if decay else 0.0, nesterov=decay > 0.0, weight_decay=decay
    )


OPTIONS = {
    "sgd": {},
    "adam": {"inner_optimiser": "adam"},
    "nesterov": {"inner_optimiser": "nesterov", "inner_weight_decay": 0.01},
}


def first_order_by_hand(
    module: nn.Module, task: list[Batch], *, rate: float = LR
) -> dict[str, Tensor]:
    """FOMAML: train a copy on all batches but the last; its gradient on the last."""
    fast = copy.deepcopy(module)
    inner = torch.optim.SGD(fast.parameters(), lr=rate)
    for x, y in task[:-1]:
        inner.zero_grad()
        F.cross_entropy(fast(x), y).backward()
        inner.step()
    grads = torch.autograd.grad(F.cross_entropy(fast(task[-1][0]), task[-1][1]), fast.parameters())
    return dict(zip(values_of(fast), grads, strict=True))


def difference_by_hand(module: nn.Module, task: list[Batch], kind: str) -> dict[str, Tensor]:
    """Reptile: train a copy on all batches but the last; (phi - W) / alpha."""
    fast = copy.deepcopy(module)
    options = {"betas": (0.0, 0.999)} if kind == "adam" else {}
    make = torch.optim.Adam if kind == "adam" else torch.optim.SGD
    inner = make(fast.parameters(), lr=LR, **options)
    for x, y in task[:-1]:
        inner.zero_grad()
        F.cross_entropy(fast(x), y).backward()
        inner.step()
    after = values_of(fast)
    return {n: (v - after[n]) / LR for n, v in values_of(module).items()}


def test_the_loop_that_users_write_first_runs_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    criterion = nn.CrossEntropyLoss()
    trainloader = batches(60)
    before = values_of(model)

    metamodel = MetaLearner(model)
    for inputs, labels in trainloader:
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        metamodel.optimize(loss)

    assert metamodel.step == 10  # five inner steps and a query each
    assert any(not torch.equal(before[n], v) for n, v in model.named_parameters())
    assert all(bool(torch.isfinite(v).all()) for v in model.parameters())


def test_a_loop_over_tasks_learns_to_adapt() -> None:
    module = dense_net()
    meta = MetaLearner(module, inner_lr=0.3, inner_steps=3, outer_lr=0.02)

    outer = []
    for task in range(100):
        for x, y in batches(4, seed=task):
            report = meta.optimize(F.cross_entropy(module(x), y))
        assert report.outer is not None
        outer.append(report.outer.loss)

    assert sum(outer[-30:]) < 0.9 * sum(outer[:30])  # of tasks that it met for the first time


def test_two_outer_steps_are_first_order_maml_written_by_hand() -> None:
    module, by_hand = dense_net(), dense_net()
    outer = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    data = batches(8)
    for task in (data[:4], data[4:]):
        for name, grad in first_order_by_hand(by_hand, task).items():
            by_hand.get_parameter(name).grad = grad
        outer.step()

    meta = MetaLearner(module, "maml", inner_lr=LR, inner_steps=3, outer_lr=0.01)
    reports = [meta.optimize(F.cross_entropy(module(x), y)) for x, y in data]

    for mine, expected in zip(module.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)
        assert mine.grad is None
    assert [r.batch for r in reports] == [1, 2, 3, 4] * 2
    assert [r.is_query for r in reports] == ([False] * 3 + [True]) * 2
    assert [r.outer is not None for r in reports] == ([False] * 3 + [True]) * 2
    assert reports[-1].outer is not None
    assert reports[-1].outer.step == meta.step == 2
    assert reports[-1].outer.loss == reports[-1].loss
    assert reports[-1].outer.grad_norm > 0.0


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_reptile_is_the_difference_written_by_hand(kind: str) -> None:
    module, task = dense_net(), batches(4)
    before = values_of(module)
    expected = difference_by_hand(module, task, kind)

    meta = MetaLearner(
        module, "reptile", optimiser=sgd, inner_lr=LR, inner_steps=3, inner_optimiser=kind
    )
    for x, y in task:
        meta.optimize(F.cross_entropy(module(x), y))

    for name, value in module.named_parameters():
        torch.testing.assert_close(before[name] - value, expected[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_weight_decay_of_inner_steps_shrinks_the_first_order_meta_gradient(n_steps: int) -> None:
    decay, module, task = 0.5, dense_net(), batches(n_steps + 1)
    before, hand = values_of(module), copy.deepcopy(module)
    inner = torch.optim.SGD(hand.parameters(), lr=LR, weight_decay=decay)
    for x, y in task[:-1]:
        inner.zero_grad()
        F.cross_entropy(hand(x), y).backward()
        inner.step()
    x, y = task[-1]
    slopes = torch.autograd.grad(F.cross_entropy(hand(x), y), hand.parameters())
    options = {"inner_lr": LR, "inner_steps": n_steps, "inner_weight_decay": decay}
    meta = MetaLearner(module, "maml", optimiser=sgd, **options)
    for x, y in task:
        meta.optimize(F.cross_entropy(module(x), y))

    for (name, now), slope in zip(module.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(before[name] - now, (1 - LR * decay) ** n_steps * slope)


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_module_holds_what_torchs_optimiser_would_have_made_of_it(kind: str) -> None:
    module, by_torch, task = dense_net(), dense_net(), batches(3)
    inner = inner_of_torch(kind, by_torch.parameters())

    meta = MetaLearner(module, "maml", inner_lr=LR, inner_steps=5, **OPTIONS[kind])
    for x, y in task:
        meta.optimize(F.cross_entropy(module(x), y))
        inner.zero_grad()
        F.cross_entropy(by_torch(x), y).backward()
        inner.step()

        for mine, expected in zip(module.parameters(), by_torch.parameters(), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["maml", "anil", "boil", "meta_sgd", "meta_curvature"])
def test_a_loop_on_one_support_set_is_a_first_order_episode(algorithm: str) -> None:
    support_x, support_y, query_x, query_y = (
        t.double() if t.is_floating_point() else t for t in vector_episode()
    )
    options = {"inner_steps": 2, "head": "2", "optimiser": sgd, "inner_weight_decay": 0.1}
    if algorithm != "meta_sgd":
        options["inner_lr"] = LR
    one, other = dense_net(), dense_net()
    by_episode = MetaLearner(one, algorithm, first_order=True, **options)
    by_episode.optimize([(support_x, support_y, query_x, query_y)])

    by_loop = MetaLearner(other, algorithm, **options)
    for x, y in [(support_x, support_y)] * 2 + [(query_x, query_y)]:
        by_loop.optimize(F.cross_entropy(other(x), y))

    assert by_loop.step == 1
    for mine, expected in zip(other.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-11)
    own, known = (
        [g for group in m.optimiser.param_groups for g in group["params"]]
        for m in (by_loop, by_episode)
    )
    for mine, expected in zip(own, known, strict=True):  # learned step sizes and matrices too
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-11)


def test_next_task_makes_the_last_batch_the_query() -> None:
    module, task = dense_net(), batches(3)
    before = values_of(module)
    expected = first_order_by_hand(module, task)
    meta = MetaLearner(module, "maml", optimiser=sgd, inner_lr=LR, inner_steps=5)
    assert meta.next_task() is None

    for x, y in task:
        report = meta.optimize(F.cross_entropy(module(x), y))
    outer = meta.next_task()

    assert outer is not None
    assert outer.loss == report.loss
    for name, value in module.named_parameters():
        torch.testing.assert_close(before[name] - value, expected[name], rtol=1e-10, atol=1e-12)
    assert meta.next_task() is None
    assert meta.optimize(F.cross_entropy(module(x), y)).batch == 1


@pytest.mark.parametrize("algorithm", ["maml", "reptile"])
def test_a_task_of_one_batch_is_plain_training(algorithm: str) -> None:
    module, ((x, y),) = dense_net(), batches(1)
    before = values_of(module)
    grads = torch.autograd.grad(F.cross_entropy(module(x), y), module.parameters())
    options = {"inner_optimiser": "sgd"} if algorithm == "reptile" else {}
    meta = MetaLearner(module, algorithm, optimiser=sgd, inner_lr=LR, **options)

    meta.optimize(F.cross_entropy(module(x), y))
    assert meta.next_task() is not None

    for (name, value), grad in zip(module.named_parameters(), grads, strict=True):
        torch.testing.assert_close(before[name] - value, grad, rtol=1e-9, atol=1e-11)


def test_several_tasks_make_an_outer_step() -> None:
    module, data = dense_net(), batches(6)
    before = values_of(module)
    each = [first_order_by_hand(module, task) for task in (data[:3], data[3:])]
    meta = MetaLearner(module, "maml", optimiser=sgd, inner_lr=LR, inner_steps=2, tasks_per_step=2)

    reports = [meta.optimize(F.cross_entropy(module(x), y)) for x, y in data]

    assert [r.outer is None for r in reports] == [True] * 5 + [False]
    assert reports[-1].outer is not None
    assert len(reports[-1].outer.episodes) == 2
    assert reports[-1].outer.loss == pytest.approx((reports[2].loss + reports[5].loss) / 2)
    for name, value in module.named_parameters():
        mean = (each[0][name] + each[1][name]) / 2
        torch.testing.assert_close(before[name] - value, mean, rtol=1e-10, atol=1e-12)


def test_frozen_and_unused_parameters_stay() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.spare = dense_net(), nn.Linear(2, 2).double()
            self.body[0].weight.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    module = Partly()
    before = values_of(module)
    meta = MetaLearner(module, "maml", optimiser=sgd, inner_lr=LR, inner_steps=1)
    for x, y in batches(2):
        meta.optimize(F.cross_entropy(module(x), y))

    moved = {n for n, v in module.named_parameters() if not torch.equal(v, before[n])}
    assert moved == {"body.0.bias", "body.2.weight", "body.2.bias"}


def test_batch_norm_and_dropout_do_what_the_loop_says() -> None:
    module, plain = conv_net(dropout=0.5), conv_net(dropout=0.5)
    x, y, *_ = image_episode()
    meta = MetaLearner(module, inner_lr=LR)

    torch.manual_seed(5)
    meta.optimize(F.cross_entropy(module(x), y))
    torch.manual_seed(5)
    plain(x)

    assert torch.equal(module[1].running_mean, plain[1].running_mean)
    assert int(module[1].num_batches_tracked) == 1


def test_a_deep_copy_of_one_that_learned_from_episodes_is_independent() -> None:
    module = conv_net(dropout=0.5)
    meta = MetaLearner(module, "meta_sgd", inner_steps=1)
    meta.optimize([image_episode()])
    before = copy.deepcopy(module.state_dict())

    twin = copy.deepcopy(meta)
    one = twin.optimize([image_episode(1)])

    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())
    assert dataclasses.asdict(meta.optimize([image_episode(1)])) == dataclasses.asdict(one)
    for mine, other in zip(meta.optimiser.param_groups, twin.optimiser.param_groups, strict=True):
        assert all(map(torch.equal, mine["params"], other["params"]))
        assert not {id(p) for p in mine["params"]} & {id(p) for p in other["params"]}


def test_it_is_called_like_its_module_and_shows_what_it_is() -> None:
    module, ((x, y),) = dense_net(), batches(1)
    meta = MetaLearner(module, "maml", inner_lr=0.25, inner_steps=1)

    assert torch.equal(meta(x), module(x))
    assert repr(meta) == (
        "MetaLearner(Sequential of 57 parameters, 'maml', inner_optimiser='sgd', "
        "inner_weight_decay=0.0, inner_steps=1, first_order=False (in a training loop True), "
        "inner_lr=0.25; step 0)"
    )
    assert "in a training" not in repr(MetaLearner(module, inner_lr=0.25, first_order=True))
    assert "in a training" not in repr(MetaLearner(module, "protonet"))
    for _ in range(2):
        meta.optimize(F.cross_entropy(meta(x), y))
    assert repr(meta).endswith("; step 1)")


def test_the_default_step_size_of_a_loop_is_gentle_and_saved(tmp_path: Path) -> None:
    module, path = dense_net(), tmp_path / "meta.safetensors"
    meta = MetaLearner(module, inner_steps=1)
    by_hand = first_order_by_hand(module, batches(2), rate=0.01)
    before = values_of(module)
    for x, y in batches(2):
        meta.optimize(F.cross_entropy(module(x), y))
    assert any(float(g.abs().max()) > 1e-3 for g in by_hand.values())
    for name, value in module.named_parameters():
        # Adam's first step is 1e-3 along the sign
        step = (before[name] - value) / 1e-3
        torch.testing.assert_close(step, by_hand[name].sign(), rtol=1e-3, atol=1e-3)
    assert "inner_lr=0.01" in repr(meta)
    x, y, query_x, _ = vector_episode()
    expected = meta.adapt((x, y))(query_x)

    meta.save(path)  # bound to shapes by now
    other = MetaLearner(dense_net(), inner_steps=1)
    other.load(path)

    assert torch.equal(other.adapt((x, y))(query_x), expected)
    assert MetaLearner(dense_net(), inner_steps=1).adapt((x, y)) is not None
    assert "inner_lr=0.4 (in a training loop 0.01)" in repr(MetaLearner(dense_net()))


def test_a_loop_on_squared_errors_of_any_size_stays_finite_by_default() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU())
    module.append(nn.Linear(40, 1))
    meta = MetaLearner(module)
    for _ in range(60):
        x = 10.0 * torch.rand(16, 1) - 5.0
        meta.optimize(F.mse_loss(module(x), 5.0 * torch.sin(x)))
    assert meta.step == 10
