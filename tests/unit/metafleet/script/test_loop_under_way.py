"""An unfinished task of a training loop: saved, left, dropped and copied."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from metafleet import MetaLearner
from metafleet.errors import ConfigError, NumericsError
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


def under_way(meta: MetaLearner, n: int = 2) -> None:
    for x, y in batches(n):
        meta.optimize(F.cross_entropy(meta.module(x), y))


def test_a_task_under_way_is_saved_as_it_began_and_goes_on(tmp_path: Path) -> None:
    module, path = dense_net(), tmp_path / "meta.safetensors"
    meta = MetaLearner(module, "meta_sgd", head="2", inner_steps=3)
    under_way(meta, 4)  # an outer step
    before = values_of(module)
    under_way(meta)
    adapted = values_of(module)
    assert any(not torch.equal(before[n], v) for n, v in adapted.items())

    meta.save(path)

    assert all(torch.equal(adapted[n], v) for n, v in module.named_parameters())
    other = MetaLearner(dense_net(), "meta_sgd", head="2", inner_steps=3)
    under_way(other, 1)
    other.load(path)
    assert other.step == 1
    assert all(torch.equal(before[n], v) for n, v in other.module.named_parameters())
    meta.drop_task()
    for one in (meta, other):
        under_way(one, 4)
    assert all(map(torch.equal, module.parameters(), other.module.parameters()))
    assert meta.step == other.step == 2


def test_adapting_and_judging_within_a_task_begin_at_the_initialisation() -> None:
    module = dense_net()
    meta, fresh = MetaLearner(module, inner_lr=LR), MetaLearner(dense_net(), inner_lr=LR)
    under_way(meta)
    adapted = values_of(module)
    x, y, query_x, _ = vector_episode()

    assert torch.equal(meta.adapt((x, y))(query_x), fresh.adapt((x, y))(query_x))
    assert meta.evaluate([vector_episode(1)]) == fresh.evaluate([vector_episode(1)])
    assert all(torch.equal(adapted[n], v) for n, v in module.named_parameters())
    with pytest.raises(ConfigError, match=r"0 tasks and 2 batches .*next_task.*drop_task"):
        meta.optimize([vector_episode()])
    meta.next_task()
    assert meta.optimize([vector_episode()]).step == 2  # the same outer optimiser goes on
    assert meta.optimiser.state[module[0].weight]["step"] == 2


def test_an_error_of_the_loop_leaves_the_task_and_drop_task_goes_back() -> None:
    module = dense_net()
    before = values_of(module)
    meta = MetaLearner(module, "maml", optimiser=sgd, inner_lr=LR, inner_steps=3)
    under_way(meta)
    adapted = values_of(module)

    with pytest.raises(ConfigError, match=r"the loss has shape \(8, 3\)"):
        meta.optimize(module(batches(1)[0][0]))
    assert all(torch.equal(adapted[n], v) for n, v in module.named_parameters())
    (x, y), *_ = batches(1)
    assert meta.optimize(F.cross_entropy(module(x), y)).batch == 3

    meta.drop_task()
    assert all(torch.equal(before[n], v) for n, v in module.named_parameters())
    assert meta.next_task() is None
    assert meta.step == 0
    assert meta.optimize(F.cross_entropy(module(x), y)).batch == 1


@pytest.mark.parametrize("n_before", [0, 2])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_drops_the_task(n_before: int, factor: float) -> None:
    module = dense_net()
    before = values_of(module)
    meta = MetaLearner(module, inner_lr=LR)
    under_way(meta, n_before)

    with pytest.raises(
        NumericsError, match=rf"outer step 1: the loss is \w+ at batch {n_before + 1}"
    ):
        meta.optimize(factor * module(batches(1)[0][0]).square().sum())

    assert all(torch.equal(before[n], v) for n, v in module.named_parameters())
    assert meta.step == 0
    under_way(meta, 1)


def test_a_task_that_is_not_finite_drops_no_other_task() -> None:
    def trained(*, with_nan: bool) -> MetaLearner:
        meta = MetaLearner(dense_net(), "maml", optimiser=sgd, inner_lr=LR, tasks_per_step=3)
        for seed in range(3):
            if with_nan and seed:
                with pytest.raises(NumericsError, match="the loss is nan at batch 1 of the task"):
                    meta.optimize(float("nan") * meta.module(batches(1)[0][0]).square().sum())
                under_way(meta)
                meta.drop_task()
            for x, y in batches(2, seed):
                meta.optimize(F.cross_entropy(meta.module(x), y))
            meta.next_task()
        return meta

    plain, disturbed = trained(with_nan=False), trained(with_nan=True)
    assert plain.step == disturbed.step == 1
    assert all(map(torch.equal, plain.module.parameters(), disturbed.module.parameters()))


def test_a_meta_gradient_that_is_not_finite_drops_its_task_alone() -> None:
    meta = MetaLearner(
        dense_net(),
        "meta_sgd",
        **{"inner_lr_min": 1e-3, "inner_lr_max": 2e-3, "inner_steps": 1, "tasks_per_step": 2},
    )
    under_way(meta)
    before, bias = values_of(meta.module), meta.module[2].bias
    meta.optimize(1e200 * bias.sum())

    with pytest.raises(NumericsError, match="the meta-gradient of task 2 is not finite"):
        meta.optimize(1e110 * bias.sum())

    assert all(torch.equal(before[n], v) for n, v in meta.module.named_parameters())
    under_way(meta)
    assert meta.step == 1


def test_tasks_that_ended_are_dropped_where_that_is_asked_for() -> None:
    meta = MetaLearner(dense_net(), inner_lr=LR, tasks_per_step=2)
    under_way(meta)
    meta.next_task()
    meta.drop_task()
    with pytest.raises(ConfigError, match=r"1 task and 0 batches .*finished=True"):
        meta.optimize([vector_episode()])

    meta.drop_task(finished=True)
    assert meta.optimize([vector_episode()]).step == 1


def test_a_gradient_that_is_not_finite_drops_the_task() -> None:
    module = dense_net()
    with pytest.raises(NumericsError, match="a gradient is not finite although the loss"):
        MetaLearner(module).optimize((0.0 * module(torch.zeros(1, 5).double())).abs().sqrt().sum())


@pytest.mark.parametrize("n_batches", [0, 2, 3, 5])
def test_a_deep_copy_goes_on_by_itself_with_the_same_bits(n_batches: int) -> None:
    meta = MetaLearner(conv_net(dropout=0.5), "meta_sgd", inner_steps=2, tasks_per_step=2)
    data = [image_episode(i)[:2] for i in range(n_batches + 6)]

    def go_on(one: MetaLearner, some: list[Batch]) -> Iterator[float]:
        for index, (x, y) in enumerate(some):
            torch.manual_seed(index)
            yield one.optimize(F.cross_entropy(one(x), y)).loss

    list(go_on(meta, data[:n_batches]))
    before = values_of(meta.module)
    twin = copy.deepcopy(meta)

    assert list(go_on(twin, data[n_batches:])) == list(go_on(meta, data[n_batches:]))
    assert twin.step == meta.step > 0
    assert any(not torch.equal(before[n], v) for n, v in meta.module.named_parameters())
    assert all(map(torch.equal, twin.module.parameters(), meta.module.parameters()))
