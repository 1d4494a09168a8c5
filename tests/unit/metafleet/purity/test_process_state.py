"""Code of a user's that draws, switches or writes: the same bits, and a process as it was."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metafleet.errors import ImpureError
from metafleet.learners.maml import Maml
from metafleet.params import MetaState, digest
from metafleet.purity.process_state import checksum, kept_as_it_is, seed_generators
from metafleet.seeds import CounterRng
from metafleet.workload import Workload
from tests.unit.metafleet.few_shot import FakeSource
from tests.unit.metafleet.test_workload import SPEC

PLACE: dict[str, Any] = {"split": "meta_train", "step": 4}


def draw_all() -> tuple[float, ...]:
    tensor = float(torch.rand(()))
    return random.random(), random.gauss(), float(np.random.randn()), tensor


def test_generators_go_on_as_if_nothing_had_been_drawn_between() -> None:
    for n_before in range(3):  # of normal numbers, every other is the half of a pair

        def draws(disturb: Callable[[], object], n: int = n_before) -> list[tuple[float, ...]]:
            random.seed(1), np.random.seed(1), torch.manual_seed(1)
            before = [draw_all() for _ in range(n)]
            with kept_as_it_is():
                disturb()
            return before + [draw_all() for _ in range(3)]

        def seed_and_draw() -> None:
            seed_generators(CounterRng(7, "x"))
            draw_all()

        assert draws(seed_and_draw) == draws(lambda: None)


def test_seeds_depend_on_every_number_of_an_episode() -> None:
    def drawn(*address: Any) -> tuple[float, ...]:
        with kept_as_it_is():
            seed_generators(CounterRng(*address))
            return draw_all()

    addresses = [(1, "a", 0, 0), (2, "a", 0, 0), (1, "b", 0, 0), (1, "a", 1, 0), (1, "a", 0, 1)]
    found = [drawn(*address) for address in addresses]
    assert found == [drawn(*address) for address in addresses]
    assert all(len(set(column)) == len(addresses) for column in zip(*found, strict=True))


def test_modes_of_torch_are_given_back() -> None:
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    with kept_as_it_is():
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_float32_matmul_precision("medium")
        torch.set_flush_denormal(True)
    assert (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()) == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    assert float(torch.tensor(1e-40) * 1) > 0


def test_a_checksum_sees_each_write_however_it_is_done() -> None:
    state = MetaState({"w": torch.randn(3, 4), "half": torch.ones(5).bfloat16()}, {})
    state.buffers["n"] = torch.tensor(3)
    seen = {checksum(state)}
    state.params["w"].data[2, 3] += 1e-6
    seen.add(checksum(state))
    state.params["half"].copy_(torch.arange(5))
    seen.add(checksum(state))
    state.buffers["n"] += 1
    assert len(seen | {checksum(state)}) == 4


class Noisy(Maml):
    """Adds to its gradients what the global generators say."""

    def episode_gradient(self, state: MetaState, episode: Any) -> Any:
        found = super().episode_gradient(state, episode)
        noise = sum(draw_all())
        return type(found)(
            {name: value + noise for name, value in found.grads.items()}, {}, found.metrics
        )


class Writing(Maml):
    """Writes to the state, in a way that no counter of versions sees."""

    def episode_gradient(self, state: MetaState, episode: Any) -> Any:
        found = super().episode_gradient(state, episode)
        next(iter(state.params.values())).data.mul_(1.01)
        return found

    def evaluate(self, state: MetaState, episode: Any) -> Any:
        next(iter(state.params.values())).data.mul_(1.01)
        return super().evaluate(state, episode)


def workload(learner: type[Maml], monkeypatch: pytest.MonkeyPatch) -> Workload:
    built = learner.build
    monkeypatch.setattr(
        "metafleet.workload.build_learner",
        lambda options, problem, make, **_: built(Maml.Options(), problem, make),
    )
    return Workload.bind(SPEC, FakeSource())


def test_a_learner_that_draws_is_a_function_of_its_episodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy = workload(Noisy, monkeypatch)
    state = noisy.init_state()

    def grads(first: int, n: int) -> dict[str, torch.Tensor]:
        return noisy.gradient(state, **PLACE, first_episode=first, n_episodes=n).grads

    pair = grads(6, 2)
    torch.manual_seed(99)
    one, other = grads(6, 1), grads(7, 1)
    assert digest({name: one[name] + other[name] for name in one}) == digest(pair)
    assert digest(one) == digest(grads(6, 1))
    assert digest(one) != digest(other)


def test_what_is_drawn_while_a_learner_is_built_is_the_same_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[float, ...]] = []

    class Drawing(Maml):
        @classmethod
        def build(cls, options: Any, problem: Any, make_model: Any) -> Any:
            drawn.append(draw_all())
            return super().build(options, problem, make_model)

        def init_state(self, seed: int) -> MetaState:
            drawn.append(draw_all())
            return super().init_state(seed)

    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        workload(Drawing, monkeypatch).init_state()
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


def test_writing_to_the_state_is_refused_in_training_and_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing = workload(Writing, monkeypatch)
    for compute in (writing.gradient, writing.evaluate):
        with pytest.raises(ImpureError, match="wrote to the state it was given"):
            compute(writing.init_state(), **PLACE, first_episode=0, n_episodes=1)
