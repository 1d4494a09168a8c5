"""Modules that draw, count and average as they run: gradients are those of what was computed."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError, NumericsError
from metafleet.execution import Strategy, make_execution
from metafleet.purity.hidden_state import HiddenState
from metafleet.script.plain_episode import as_episode
from tests.unit.metafleet.script.by_hand import sgd, values_of
from tests.unit.metafleet.script.impure_modules import (
    CHANGING,
    DRAWING,
    HARMLESS,
    Calling,
    Holding,
    Net,
    impure,
)
from tests.unit.metafleet.script.modules import Plain, dense_net, vector_episode

ALL = {**DRAWING, **CHANGING, **HARMLESS}
EPISODES = [vector_episode(seed) for seed in range(3)]
MULTI_STEP = {"multi_step_epochs": 5, "first_order_epochs": 0, "batch_norm": "none"}


def learner_of(module: nn.Module, execution: str = "autograd", **options: Any) -> MetaLearner:
    given = {"inner_lr": 0.3, "inner_steps": 3} | options
    return MetaLearner(module, execution=execution, optimiser=sgd, **given)


def trained(name: str, execution: str, **options: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Return the losses of two outer steps, and what they made of parameters and buffers."""
    module = impure(ALL[name])
    meta = learner_of(module, execution, **options)
    losses = [meta.optimize(EPISODES).loss for _ in range(2)]
    return losses, {n: v.detach() for n, v in module.state_dict().items()}


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(module.state_dict()))


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("name", ALL)
def test_a_step_that_is_computed_again_is_the_same_function(name: str) -> None:
    losses, expected = trained(name, "autograd")
    again, found = trained(name, "constant_memory")

    assert again == losses
    for part, value in expected.items():
        torch.testing.assert_close(found[part], value, rtol=1e-12, atol=1e-14, msg=part)
    start = impure(ALL[name]).state_dict()
    assert any(not torch.equal(value, start[part]) for part, value in expected.items())


@pytest.mark.parametrize("name", ["F.dropout", "spectral_norm", "average linked", "annealed"])
def test_query_passes_between_inner_steps_count_too(name: str) -> None:
    losses, expected = trained(name, "autograd", algorithm="maml_plus_plus", **MULTI_STEP)
    again, found = trained(name, "constant_memory", algorithm="maml_plus_plus", **MULTI_STEP)

    assert again == pytest.approx(losses, rel=1e-14)
    for part, value in expected.items():
        torch.testing.assert_close(found[part], value, rtol=1e-12, atol=1e-14, msg=part)


@pytest.mark.parametrize("name", ["F.dropout", "own generators", "average linked", "remembering"])
def test_gradients_match_finite_differences(name: str) -> None:
    def loss_and_gradient(module: nn.Module) -> tuple[float, dict[str, Tensor]]:
        copied = copy.deepcopy(module)
        loss = learner_of(copied, "constant_memory").optimize(EPISODES[:1]).loss
        moved = values_of(copied)
        return loss, {n: p - moved[n] for n, p in values_of(module).items()}

    module = impure(ALL[name])
    gradient = loss_and_gradient(module)[1]
    generator = torch.Generator().manual_seed(3)
    for parameter, value in module.named_parameters():
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        losses = []
        for sign in (1.0, -2.0):
            value.data.add_(sign * 1e-6 * direction)
            losses.append(loss_and_gradient(module)[0])
        value.data.add_(1e-6 * direction)
        expected = (losses[0] - losses[1]) / 2e-6
        assert float((gradient[parameter] * direction).sum()) == pytest.approx(
            expected, rel=1e-5, abs=1e-8
        ), parameter


GAPS = torch.tensor([[0.0, float("nan")], [1.0, 2.0]])
UNCHANGED: dict[str, Callable[[], Tensor]] = {
    "NaN": GAPS.clone,
    "complex NaN": lambda: GAPS + 1j,
    "COO": GAPS.to_sparse,
    "CSR": GAPS.to_sparse_csr,
    "CSC": GAPS.to_sparse_csc,
    "BSR": lambda: GAPS.to_sparse_bsr((1, 2)),
    "BSC": lambda: GAPS.to_sparse_bsc((2, 1)),
}


@pytest.mark.parametrize("execution", ["autograd", "constant_memory", "vmap"])
@pytest.mark.parametrize("name", UNCHANGED)
def test_a_buffer_of_any_layout_that_stays_as_it_is_is_no_change(name: str, execution: str) -> None:
    held, plain = (Net(Holding(UNCHANGED[name]())) for _ in range(2))
    for module in (held, plain):
        for layer in (module.first, module.last):
            torch.nn.init.constant_(layer.weight, 0.1)
            torch.nn.init.constant_(layer.bias, 0.2)
    plain.layer = nn.Identity()

    found = [learner_of(module, execution).optimize(EPISODES).loss for module in (held, plain)]

    assert found[0] == found[1]
    assert held.layer.matrix.layout == UNCHANGED[name]().layout


def blocks_of(tensor: Tensor) -> dict[str, Any]:
    is_blocked = tensor.layout in (torch.sparse_bsr, torch.sparse_bsc)
    return {"blocksize": tuple(tensor.values().shape[1:])} if is_blocked else {}


@pytest.mark.parametrize("name", UNCHANGED)
def test_a_buffer_of_any_layout_that_is_written_to_is_as_before(name: str) -> None:
    layer = Holding(UNCHANGED[name]())
    state, expected = HiddenState(layer), UNCHANGED[name]()
    before = state.capture()
    assert not state.changes(before)

    parts = [layer.matrix]
    if layer.matrix.layout == torch.sparse_coo:
        parts = [layer.matrix._values()]
    elif layer.matrix.layout != torch.strided:
        parts = [layer.matrix.values()]
    parts[0].mul_(2.0)
    assert [change.name for change in state.changes(before)] == ["buffer 'matrix'"]
    state.restore(before)

    assert not state.changes(before)
    assert layer.matrix.layout == expected.layout
    assert torch.equal(layer.matrix.to_dense()[1], expected.to_dense()[1])
    if parts[0] is not layer.matrix:
        whole = torch.ones(2, 2).to_sparse(layout=expected.layout, **blocks_of(expected))
        layer.matrix.resize_as_sparse_(whole).copy_(whole)
        assert len(state.changes(before)) == 1
        state.restore(before)
        assert not state.changes(before)


CALLS: list[float] = []


def scaled_by_a_global(x: Tensor) -> Tensor:
    CALLS.append(1.0)
    return x * (1.0 + 0.001 * len(CALLS))


def test_state_that_cannot_be_restored_is_refused_in_one_line() -> None:
    module = Net(Calling(scaled_by_a_global))
    before = state_of(module)

    with pytest.raises(ConfigError, match=r"gave other values.* a global variable") as caught:
        learner_of(module, "constant_memory").optimize(EPISODES)

    assert "\n" not in str(caught.value)
    require_equal(state_of(module), before)


@pytest.mark.parametrize("name", [*DRAWING, *CHANGING])
def test_mapped_episodes_refuse_draws_and_changes_in_one_line(name: str) -> None:
    module = impure(ALL[name])
    before, generators = state_of(module), torch.random.get_rng_state()

    with pytest.raises(ConfigError, match=r"choose .*'autograd'") as caught:
        learner_of(module, "vmap").optimize(EPISODES)

    assert "\n" not in str(caught.value)
    require_equal(state_of(module), before)
    assert torch.equal(torch.random.get_rng_state(), generators)
    learner_of(module).optimize(EPISODES)  # nothing of the attempt is left in it


def test_a_mapped_module_may_leave_tensors_that_it_never_reads() -> None:
    class Shown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen, self.parts = dense_net(), None, {}

        def forward(self, x: Tensor) -> Tensor:
            self.seen = self.parts["out"] = self.layer(x)
            return self.seen

    found = []
    for execution in ("autograd", "vmap"):
        module = Shown()
        learner_of(module, execution).optimize(EPISODES)
        found.append(values_of(module))

    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["F.dropout", "NumPy noise", "annealed", "average rebound"])
def test_nothing_impure_is_written_into_a_program(name: str, tmp_path: Path) -> None:
    module = impure(ALL[name])
    meta = learner_of(module)
    meta.bind(EPISODES[0][:2])
    bound = meta._learning.require_bound()
    learner, state = bound.learner, bound.state.view()
    before = state_of(module)
    execution = make_execution(Strategy("compiled"), learner, cache_dir=tmp_path)
    like = next(module.parameters())

    with pytest.raises(
        ConfigError, match=r"mapped over episodes as 'compiled'|cannot be compiled"
    ) as caught:
        execution.gradient(state, [as_episode(episode, like) for episode in EPISODES])

    assert "\n" not in str(caught.value)
    require_equal(state_of(module), before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("execution", ["autograd", "constant_memory"])
@pytest.mark.parametrize("name", ["old spectral_norm", "average in place", "annealed"])
def test_an_episode_knows_nothing_of_those_before_it(name: str, execution: str) -> None:
    def losses(episodes: list[Plain]) -> list[float]:
        report = learner_of(impure(ALL[name]), execution).optimize(episodes)
        return [one.loss for one in report.episodes]

    one, two, three = losses(EPISODES)

    assert losses(EPISODES[::-1]) == [three, two, one]
    assert losses(EPISODES[1:2]) == [two]


@pytest.mark.parametrize("execution", ["autograd", "constant_memory"])
def test_a_step_leaves_in_the_buffers_what_its_first_episode_left(execution: str) -> None:
    several, alone = impure(CHANGING["annealed"]), impure(CHANGING["annealed"])
    several_meta, alone_meta = learner_of(several, execution), learner_of(alone, execution)

    several_meta.optimize(EPISODES)
    alone_meta.optimize(EPISODES[:1])

    assert int(several.layer.calls) == int(alone.layer.calls) == several.layer.n_calls == 4
    several_meta.optimize(EPISODES)
    assert int(several.layer.calls) == 8


@pytest.mark.parametrize("execution", ["autograd", "constant_memory"])
@pytest.mark.parametrize("name", ["average in place", "average linked", "annealed"])
def test_a_step_that_fails_leaves_parameters_and_buffers_as_they_were(
    name: str, execution: str
) -> None:
    module = impure(ALL[name])
    meta = learner_of(module, execution)
    meta.optimize(EPISODES)
    before = state_of(module)
    objects = dict(module.named_buffers())
    bad = (EPISODES[1][0] * float("inf"), *EPISODES[1][1:])

    with pytest.raises(NumericsError, match="episode=1"):
        meta.optimize([EPISODES[0], bad])

    require_equal(state_of(module), before)
    assert all(value is objects[n] for n, value in module.named_buffers())
    assert meta.step == 1


def test_an_optimiser_that_breaks_off_leaves_parameters_as_they_were() -> None:
    class Broken(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            super().step()
            raise LookupError("broken off")

    module = impure(CHANGING["annealed"])
    before = state_of(module)

    with pytest.raises(LookupError, match="broken off"):
        MetaLearner(module, optimiser=lambda params: Broken(params, lr=1.0)).optimize(EPISODES)

    require_equal(state_of(module), before)


@pytest.mark.parametrize("name", CHANGING)
def test_judging_and_predicting_change_nothing_and_repeat_themselves(name: str) -> None:
    module = impure(ALL[name])
    meta = learner_of(module)
    meta.optimize(EPISODES)
    before = state_of(module)
    support_x, support_y, query_x, _ = EPISODES[0]

    summary = meta.evaluate(EPISODES)
    adapted = meta.adapt((support_x, support_y))
    outputs = adapted(query_x)

    assert torch.equal(adapted(query_x), outputs)
    assert meta.evaluate(EPISODES) == summary
    require_equal(state_of(module), before)
    meta.optimize(EPISODES)
    assert torch.equal(adapted(query_x), outputs)  # what is learned later does not change it


def test_draws_depend_on_the_seed_and_the_place_alone_and_generators_are_given_back() -> None:
    def losses() -> list[float]:
        module = nn.Sequential(impure(DRAWING["NumPy noise"]), Calling(shaken))
        return [one.loss for one in learner_of(module).optimize(EPISODES).episodes]

    def shaken(x: Tensor) -> Tensor:
        return x * (1.0 + random.random()) + torch.rand(())

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = losses()
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    states = (*states[:2], torch.get_rng_state())
    random.random()
    np.random.random(3)
    torch.rand(2)
    assert losses() == first


@pytest.mark.parametrize("execution", ["autograd", "vmap", "constant_memory"])
def test_a_script_draws_new_episodes_for_every_step(execution: str) -> None:
    drawn: list[tuple[float, ...]] = []

    def episodes() -> Any:
        for _ in range(2):
            drawn.append((float(torch.rand(())), float(np.random.random()), random.random()))
            yield EPISODES[0]

    meta = learner_of(dense_net(), execution)
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    for _ in range(2):
        meta.optimize(episodes())
    meta.evaluate(episodes())

    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = [
        (float(torch.rand(())), float(np.random.random()), random.random()) for _ in range(6)
    ]
    assert drawn == expected


def test_a_generator_that_script_and_module_share_is_not_turned_back() -> None:
    module = impure(DRAWING["own generators"])
    shared = module.layer.torch
    drawn: list[float] = []

    def episodes() -> Any:
        for _ in range(3):
            drawn.append(float(torch.rand((), generator=shared)))
            yield EPISODES[0]

    meta = learner_of(module)
    for _ in range(2):
        meta.optimize(episodes())

    assert len(set(drawn)) == 6


def test_implicit_gradients_take_the_curvature_of_one_function() -> None:
    drawn: list[float] = []

    def noisy(x: Tensor) -> Tensor:
        drawn.append(float(torch.rand(())))
        return x * drawn[-1]

    module = Net(Calling(noisy))
    meta = MetaLearner(module, "imaml", inner_steps=2, cg_steps=4, optimiser=sgd)
    meta.optimize(EPISODES[:1])

    steps, products = drawn[:3], drawn[3:]
    assert len(set(steps)) == 3
    assert len(products) == 4
    assert len(set(products)) == 1
