"""Ctrl-C in an outer step: all of the step is there afterwards, or nothing of it."""

import copy
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metafleet import MetaLearner
from metafleet.interrupts import uninterrupted
from metafleet.script import training_loop
from metafleet.script.episodes_apart import EpisodesApart
from metafleet.script.learned_state import LearnedState
from tests.unit.metafleet.script.modules import batches, conv_net, dense_net, image_episode


class Interrupt:
    """Sends this process SIGINT, once, where it is called."""

    def __init__(self) -> None:
        self.is_sent = False

    def __call__(self, *_: object) -> None:
        if not self.is_sent:
            self.is_sent = True
            signal.raise_signal(signal.SIGINT)

    def around(self, compute: Callable, *, is_before: bool) -> Callable:
        def computed(*args, **kwargs):
            if is_before:
                self()
            result = compute(*args, **kwargs)
            self()
            return result

        return computed


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def state_of(meta: MetaLearner) -> list[Tensor]:
    """All that an outer step moves."""
    moments = [v for kept in meta.optimiser.state.values() for v in kept.values()]
    step = torch.tensor(meta.step)
    return [v.detach().clone() for v in (*meta.module.state_dict().values(), *moments, step)]


def is_same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def send_in_pre_hook(meta: MetaLearner, patch: pytest.MonkeyPatch) -> None:
    meta.optimiser.register_step_pre_hook(Interrupt())


def send_in_post_hook(meta: MetaLearner, patch: pytest.MonkeyPatch) -> None:
    meta.optimiser.register_step_post_hook(Interrupt())


def send_at(owner: object, name: str, *, is_before: bool = True):
    def send(meta: MetaLearner, patch: pytest.MonkeyPatch) -> None:
        sending = Interrupt().around(getattr(owner, name), is_before=is_before)
        patch.setattr(owner, name, sending)

    return send


IN_THE_COMMIT = {
    "before the optimiser moves": send_in_pre_hook,
    "after the optimiser moved": send_in_post_hook,
    "before gradients go": send_at(LearnedState, "drop_gradients"),
}
OF_EPISODES = {
    **IN_THE_COMMIT,
    "before buffers settle": send_at(EpisodesApart, "settle"),
    "before statistics move": send_at(LearnedState, "move_statistics"),
    "after statistics moved": send_at(LearnedState, "move_statistics", is_before=False),
}


def episodes() -> list:
    return [image_episode(seed) for seed in range(2)]


@pytest.mark.parametrize("send", OF_EPISODES.values(), ids=OF_EPISODES)
def test_an_interrupt_in_the_commit_of_episodes_comes_after_a_whole_step(
    send: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = MetaLearner(conv_net(), inner_lr=0.1, inner_steps=2)
    meta.optimize(episodes())
    undisturbed = copy.deepcopy(meta)
    undisturbed.optimize(episodes())
    expected = state_of(undisturbed)

    send(meta, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        meta.optimize(episodes())

    assert is_same(state_of(meta), expected)
    assert all(param.grad is None for param in meta.module.parameters())


def test_an_interrupt_before_the_commit_and_one_in_the_undoing_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meta = MetaLearner(conv_net(), inner_lr=0.1, inner_steps=2)
    meta.optimize(episodes())
    before = state_of(meta)

    def interrupted() -> Iterator:
        yield image_episode()
        meta.module[1].running_mean.add_(1.0)
        signal.raise_signal(signal.SIGINT)

    send_at(EpisodesApart, "undo")(meta, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        meta.optimize(interrupted())

    assert is_same(state_of(meta), before)


def loop_over(meta: MetaLearner, n: int, seed: int = 0) -> None:
    for x, y in batches(n, seed):
        meta.optimize(F.cross_entropy(meta.module(x), y))


class _Sending(dict):
    """Values to be written, whose reading is interrupted halfway."""

    def __init__(self, values: dict, interrupt: Interrupt) -> None:
        super().__init__(values)
        self._interrupt, self._n_read = interrupt, 0

    def __getitem__(self, name: str) -> Tensor:
        self._n_read += 1
        if self._n_read == len(self) // 2:
            self._interrupt()
        return super().__getitem__(name)


def send_halfway_through_writing(meta: MetaLearner, patch: pytest.MonkeyPatch) -> None:
    write, interrupt = training_loop._write, Interrupt()
    patch.setattr(
        *(training_loop, "_write"),
        lambda bound, values: write(bound, _Sending(values, interrupt)),
    )


OF_A_LOOP = {**IN_THE_COMMIT, "halfway through writing": send_halfway_through_writing}


@pytest.mark.parametrize("send", OF_A_LOOP.values(), ids=OF_A_LOOP)
@pytest.mark.parametrize("tasks_per_step", [1, 2])
def test_an_interrupt_in_the_commit_of_a_loop_comes_after_a_whole_step(
    send: Callable, tasks_per_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_batches = 3 * tasks_per_step
    meta = MetaLearner(dense_net(), inner_lr=0.1, inner_steps=2, tasks_per_step=tasks_per_step)
    loop_over(meta, n_batches)
    *early, (x, y) = batches(n_batches, seed=1)
    for early_x, early_y in early:
        meta.optimize(F.cross_entropy(meta.module(early_x), early_y))
    undisturbed = copy.deepcopy(meta)
    undisturbed.optimize(F.cross_entropy(undisturbed.module(x), y))
    expected = state_of(undisturbed)

    send(meta, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        meta.optimize(F.cross_entropy(meta.module(x), y))

    meta.drop_task(finished=True)
    assert is_same(state_of(meta), expected)


@pytest.mark.parametrize("act", ["optimize", "drop_task", "evaluate"])
def test_an_interrupt_while_a_module_is_written_leaves_the_task_as_it_is_or_whole(
    act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = MetaLearner(dense_net(), inner_lr=0.1, inner_steps=3)
    loop_over(meta, 2)
    (x, y), *_ = batches(1, seed=1)
    acts = {
        "optimize": lambda meta: meta.optimize(F.cross_entropy(meta.module(x), y)),
        "drop_task": lambda meta: meta.drop_task(),
        "evaluate": lambda meta: meta.evaluate([(x, y, x, y)]),
    }
    undisturbed = copy.deepcopy(meta)
    acts[act](undisturbed)
    expected = state_of(undisturbed)

    with monkeypatch.context() as patch:
        send_halfway_through_writing(meta, patch)
        with pytest.raises(KeyboardInterrupt):
            acts[act](meta)

    assert is_same(state_of(meta), expected)
    for one in (meta, undisturbed):
        loop_over(one, 4, seed=2)
    assert is_same(state_of(meta), state_of(undisturbed))


def test_an_interrupt_on_the_way_into_no_grad_leaves_gradients_on() -> None:
    meta = MetaLearner(conv_net(), inner_steps=1)

    def interrupted() -> Iterator:
        yield image_episode()
        torch.set_grad_enabled(False)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        meta.optimize(interrupted())

    assert torch.is_grad_enabled()


def test_the_loss_of_a_batch_that_was_interrupted_before_its_commit_is_not_counted() -> None:
    meta = MetaLearner(dense_net(), inner_lr=0.1, inner_steps=2)
    loop_over(meta, 1)
    before = state_of(meta)
    (x, y), *_ = batches(1, seed=1)
    outputs = meta.module(x)
    outputs.register_hook(lambda grad: signal.raise_signal(signal.SIGINT))  # in the backward pass

    with pytest.raises(KeyboardInterrupt):
        meta.optimize(F.cross_entropy(outputs, y))

    assert is_same(state_of(meta), before)
    assert "0 tasks and 1 batch " in repr(meta)


def test_handlers_of_a_scripts_own_wait_and_are_given_back_when_one_raises() -> None:
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted(), uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert seen == []
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is note
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_module_on_another_thread_learns_without_handlers() -> None:
    meta = MetaLearner(dense_net(), inner_steps=1)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(loop_over, meta, 2).result()
    assert meta.step == 1
