"""A module that was changed between batches or steps."""

import copy
from collections.abc import Callable

import pytest
import torch.nn.functional as F
from torch import nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError
from tests.unit.metafleet.script.modules import batches, dense_net, vector_episode


def replace_a_layer(module: nn.Module) -> None:
    module[2] = nn.Linear(6, 3).double()


CHANGES = {
    "replaced": (replace_a_layer, "'2.weight' was replaced"),
    "added": (
        lambda module: module.add_module("3", nn.Linear(3, 3).double()),
        "'3.weight' was added or unfrozen",
    ),
    "removed": (lambda module: module.pop(2), "'2.weight' was removed or frozen"),
    "frozen": (
        lambda module: module[0].bias.requires_grad_(False),
        "'0.bias' was removed or frozen",
    ),
    "cast": (lambda module: module.float(), "'0.weight' is torch.float32 on cpu and was torch."),
}


def take(meta: MetaLearner, n: int = 1) -> None:
    for x, y in batches(n):
        x = x.to(next(meta.module.parameters()).dtype)  # noqa: PLW2901
        meta.optimize(F.cross_entropy(meta.module(x)[:, :3], y))


@pytest.mark.parametrize("n_before", [2, 3], ids=["within a task", "between tasks"])
@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_parameter_that_is_not_what_a_loop_learns_is_named(
    change: Callable[[nn.Module], object], message: str, n_before: int
) -> None:
    meta = MetaLearner(dense_net(), inner_lr=0.1, inner_steps=2)
    take(meta, n_before)
    change(meta.module)

    with pytest.raises(ConfigError) as caught:
        take(meta)

    assert str(caught.value).startswith(f"parameter {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_parameter_that_is_not_what_episodes_learn_is_named(
    change: Callable[[nn.Module], object], message: str
) -> None:
    meta = MetaLearner(dense_net(), inner_lr=0.1, inner_steps=1)
    meta.optimize([vector_episode()])
    change(meta.module)

    with pytest.raises(ConfigError, match=message):
        meta.optimize([vector_episode()])


def test_a_frozen_parameter_may_be_unfrozen_again_and_the_task_goes_on() -> None:
    meta = MetaLearner(dense_net(), inner_lr=0.1, inner_steps=2)
    take(meta, 1)
    meta.module[0].bias.requires_grad_(False)
    with pytest.raises(ConfigError):
        take(meta)

    meta.module[0].bias.requires_grad_(True)
    take(meta, 2)
    assert meta.step == 1


@pytest.mark.parametrize("act", [take, lambda meta: meta.optimize([vector_episode()])])
def test_a_module_within_a_task_of_another_meta_learner_is_refused(act: Callable) -> None:
    module = dense_net()
    first = MetaLearner(module, inner_lr=0.1, inner_steps=2)
    second = MetaLearner(module, inner_lr=0.1, inner_steps=2)
    take(first)

    with pytest.raises(ConfigError, match="another MetaLearner of this module is within a task"):
        act(second)

    own = copy.deepcopy(first)  # with a module of its own
    take(own, 2)
    first.drop_task()
    act(second)
    assert own.step == 1


def test_a_meta_learner_that_is_gone_has_no_task() -> None:
    module = dense_net()
    take(MetaLearner(module, inner_steps=2))
    second = MetaLearner(module, inner_steps=2)
    take(second, 3)
    assert second.step == 1
