"""Defaults of a training loop, and the tasks left after its last batch."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from metafleet import MetaLearner
from metafleet.errors import CheckpointError, ConfigError
from tests.unit.metafleet.script.by_hand import sgd
from tests.unit.metafleet.script.modules import batches, dense_net, vector_episode

LR = 0.1


def trained_in_a_loop(meta: MetaLearner, n: int = 6) -> MetaLearner:
    for x, y in batches(n):
        meta.optimize(F.cross_entropy(meta.module(x), y))
    return meta


def test_the_default_step_size_of_a_loop_does_not_depend_on_bind() -> None:
    bound, plain = MetaLearner(dense_net()), MetaLearner(dense_net())
    bound.bind(vector_episode()[:2])
    schedule = torch.optim.lr_scheduler.ConstantLR(bound.optimiser, factor=1.0)

    trained_in_a_loop(bound)

    assert schedule.optimizer is bound.optimiser
    assert "inner_lr=0.01," in repr(bound).replace(";", ",")
    trained_in_a_loop(plain)
    assert bound.step == plain.step == 1
    assert all(map(torch.equal, bound.module.parameters(), plain.module.parameters()))
    assert bound.evaluate([vector_episode()]) == plain.evaluate([vector_episode()])


def test_a_loop_after_an_evaluation_with_another_default_step_size_says_so() -> None:
    judged, plain = MetaLearner(dense_net()), MetaLearner(dense_net())
    judged.evaluate([vector_episode()])

    with pytest.warns(UserWarning, match=r"inner_lr is 0\.01 from this .* was 0\.4 when") as caught:
        trained_in_a_loop(judged, 1)

    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained_in_a_loop(judged, 5)
        trained_in_a_loop(trained_in_a_loop(plain, 1), 5)
        given = MetaLearner(dense_net(), inner_lr=LR)
        given.adapt(vector_episode()[:2])
        trained_in_a_loop(given)
    assert all(map(torch.equal, judged.module.parameters(), plain.module.parameters()))


def test_a_step_size_that_something_was_learned_with_stays() -> None:
    meta = MetaLearner(dense_net())
    with pytest.raises(ConfigError):
        meta.optimize(meta.module(batches(1)[0][0]))  # no scalar: nothing is decided
    meta.optimize([vector_episode()])
    other = MetaLearner(dense_net())
    other.optimize([vector_episode()])
    assert all(map(torch.equal, meta.module.parameters(), other.module.parameters()))

    assert "inner_lr=0.4;" in repr(trained_in_a_loop(meta))


@pytest.mark.parametrize("is_bound", [False, True])
@pytest.mark.parametrize("in_a_loop", [False, True])
def test_load_takes_the_default_step_size_that_a_file_was_learned_with(
    in_a_loop: bool, is_bound: bool, tmp_path: Path
) -> None:
    path, rate = tmp_path / "meta.safetensors", 0.01 if in_a_loop else 0.4
    meta, other = MetaLearner(dense_net()), MetaLearner(dense_net())
    trained_in_a_loop(meta) if in_a_loop else meta.optimize([vector_episode()])
    meta.evaluate([vector_episode()])
    meta.save(path)
    if is_bound:
        other.bind(vector_episode()[:2])

    other.load(path)

    assert f"inner_lr={rate};" in repr(other)
    assert other.evaluate([vector_episode(1)]) == meta.evaluate([vector_episode(1)])
    for one in (meta, other):
        trained_in_a_loop(one)
    assert all(map(torch.equal, meta.module.parameters(), other.module.parameters()))
    with pytest.raises(CheckpointError, match=rf"learned with inner_lr={rate}, not 0\.1"):
        MetaLearner(dense_net(), inner_lr=LR).load(path)


@pytest.mark.parametrize("n_open", [0, 2])
def test_the_last_tasks_of_a_loop_make_a_step_where_that_is_asked_for(n_open: int) -> None:
    def mean_of(n_tasks: int) -> MetaLearner:
        meta = MetaLearner(
            dense_net(),
            "maml",
            **{"optimiser": sgd, "inner_lr": LR, "inner_steps": 2, "tasks_per_step": n_tasks},
        )
        return trained_in_a_loop(meta, 3 + n_open)

    meta, exact = mean_of(3), mean_of(2 if n_open else 1)
    assert meta.next_task() is None
    with pytest.raises(ConfigError, match=r"next_task\(finish=True\)"):
        meta.optimize([vector_episode()])

    outer = meta.next_task(finish=True)

    exact.next_task()
    assert outer is not None and outer.step == meta.step == exact.step == 1
    assert len(outer.episodes) == (2 if n_open else 1)
    assert all(map(torch.equal, meta.module.parameters(), exact.module.parameters()))
    assert meta.next_task(finish=True) is None
    assert meta.optimize([vector_episode()]).step == 2


def test_repr_says_what_waits_for_the_next_outer_step() -> None:
    meta = MetaLearner(dense_net(), inner_lr=LR, inner_steps=2, tasks_per_step=2)
    assert repr(meta).endswith("; step 0)")
    trained_in_a_loop(meta, 4)
    assert repr(meta).endswith("; step 0, 1 task and 1 batch since)")
    meta.next_task()
    assert repr(meta).endswith("; step 1)")


def test_optimize_takes_one_thing_and_says_so() -> None:
    meta = MetaLearner(dense_net())
    with pytest.raises(ConfigError, match=r"given 2 things; expected one: optimize\(loss\).*\[ep"):
        meta.optimize(*batches(1)[0])


def test_a_pickled_copy_goes_on_with_the_same_bits() -> None:
    meta = trained_in_a_loop(MetaLearner(dense_net(), inner_steps=2, outer_lr=0.02), 4)

    twin = pickle.loads(pickle.dumps(meta))

    assert repr(twin) == repr(meta)
    for one in (meta, twin):
        trained_in_a_loop(one, 5)
    assert twin.step == meta.step == 3
    assert all(map(torch.equal, twin.module.parameters(), meta.module.parameters()))


def test_a_module_that_is_cast_within_a_task_is_one_line() -> None:
    module = dense_net()
    meta = trained_in_a_loop(MetaLearner(module), 1)
    module.float()
    x, y = batches(1)[0]
    with pytest.raises(
        ConfigError, match=r"'0.weight' is torch.float32 .*was torch.float64 on cpu"
    ):
        meta.optimize(F.cross_entropy(module(x.float()), y))
    module.double()
    assert meta.optimize(F.cross_entropy(module(x), y)).batch == 2
