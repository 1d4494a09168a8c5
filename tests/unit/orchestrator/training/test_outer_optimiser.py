"""The outer optimiser: torch's arithmetic, our schedule, and the same bits after a checkpoint."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from metafleet.errors import CheckpointError, NumericsError
from metafleet.orchestrator.config.outer import OuterSection
from metafleet.orchestrator.training.checkpoint import Checkpoint, CheckpointFolder, read_checkpoint
from metafleet.orchestrator.training.checkpoint_header import TrainingProgress
from metafleet.orchestrator.training.outer_optimiser import OuterOptimiser
from metafleet.params import MetaState, Params, digest, flatten_state
from tests.messages import make_state, make_sums

N_EPISODES = 5
OPTIMISERS: list[dict[str, Any]] = [
    {"optimiser": "adam", "lr": 0.01},
    {"optimiser": "adam", "lr": 0.01, "weight_decay": 0.1},
    {"optimiser": "sgd", "lr": 0.1},
    {"optimiser": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
]


def outer(**options: Any) -> OuterSection:
    return OuterSection(**{"steps": 100, "meta_batch_size": N_EPISODES, **options})


def bits(state: MetaState) -> str:
    return digest(flatten_state(state))


def step_by_hand(options: OuterSection, state: MetaState, steps: int) -> Params:
    """What plain torch makes of the mean gradients of ``steps`` steps."""
    params = {name: t.clone().requires_grad_() for name, t in state.params.items()}
    if options.optimiser == "adam":
        by_hand: torch.optim.Optimizer = torch.optim.Adam(
            params.values(), lr=options.lr, weight_decay=options.weight_decay
        )
    else:
        by_hand = torch.optim.SGD(
            params.values(),
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
    for step in range(1, steps + 1):
        sums = make_sums(100 + step)
        for name, param in params.items():
            param.grad = sums[f"params.{name}"] / N_EPISODES
        by_hand.step()
    return {name: tensor.detach() for name, tensor in params.items()}


@pytest.mark.parametrize("options", OPTIMISERS)
def test_updates_are_torchs_bit_for_bit(options: dict[str, Any]) -> None:
    start = make_state()
    optimiser = OuterOptimiser(outer(**options), start)

    for step in range(1, 8):
        optimiser.update(step, make_sums(100 + step), N_EPISODES)

    expected = step_by_hand(outer(**options), start, 7)
    assert digest(optimiser.state.params) == digest(expected)
    assert digest(expected) != digest(start.params)


@pytest.mark.parametrize("options", OPTIMISERS)
@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_going_on_from_a_checkpoint_gives_the_same_bits(
    tmp_path: Path, options: dict[str, Any], stop_after: int
) -> None:
    table = outer(**options, schedule="cosine", warmup_steps=2, clip_norm=0.5)
    whole = OuterOptimiser(table, make_state())
    for step in range(1, 7):
        whole.update(step, make_sums(100 + step), N_EPISODES)

    first = OuterOptimiser(table, make_state())
    for step in range(1, stop_after + 1):
        first.update(step, make_sums(100 + step), N_EPISODES)
    progress = TrainingProgress(stop_after)
    stored = CheckpointFolder(tmp_path).write(
        Checkpoint(progress, first.state, first.moments(), None)
    )
    read, _ = read_checkpoint(stored.path)
    second = OuterOptimiser(table, read.state)
    second.load_moments(read.moments)
    for step in range(stop_after + 1, 7):
        second.update(step, make_sums(100 + step), N_EPISODES)

    assert bits(second.state) == bits(whole.state)
    assert digest(second.moments()) == digest(whole.moments())


def test_moments_that_were_taken_do_not_change_later() -> None:
    optimiser = OuterOptimiser(outer(), make_state())
    optimiser.update(1, make_sums(1), N_EPISODES)
    moments = optimiser.moments()
    before = digest(moments)

    optimiser.update(2, make_sums(2), N_EPISODES)

    assert digest(moments) == before
    assert digest(optimiser.moments()) != before


@pytest.mark.parametrize("name", ["layer.bias.momentum_buffer", "other.bias.exp_avg", "exp_avg"])
def test_moments_of_another_model_or_optimiser_are_refused(name: str) -> None:
    optimiser = OuterOptimiser(outer(), make_state())

    with pytest.raises(CheckpointError, match=f"has '{name}', which optimiser 'adam'"):
        optimiser.load_moments({name: torch.ones(4)})


def test_states_are_copies_going_in_and_coming_out() -> None:
    start = make_state()
    optimiser = OuterOptimiser(outer(), start)

    start.params["layer.bias"].zero_()
    start.buffers["norm.mean"].zero_()
    optimiser.state.params["layer.bias"].fill_(7.0)
    optimiser.state.buffers["norm.mean"].fill_(7.0)

    assert bits(optimiser.state) == bits(make_state())


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"schedule": "constant"}, {1: 1.0, 50: 1.0, 100: 1.0}),
        ({"schedule": "cosine"}, {1: 1.0, 51: 0.5, 26: 0.5 * (1 + math.sqrt(0.5))}),
        ({"schedule": "cosine", "steps": 1}, {1: 1.0}),
        ({"schedule": "step", "step_every": 10}, {1: 1.0, 10: 1.0, 11: 0.5, 21: 0.25, 100: 2**-9}),
        (
            {"schedule": "step", "step_every": 30, "step_gamma": 0.1},
            {30: 1.0, 31: 0.1, 61: 0.01},
        ),
        ({"warmup_steps": 4}, {1: 0.25, 2: 0.5, 4: 1.0, 5: 1.0}),
        (
            {"schedule": "cosine", "warmup_steps": 20},
            {1: 0.05, 20: 1.0, 21: 1.0, 61: 0.5},
        ),
        ({"schedule": "cosine", "warmup_steps": 100}, {50: 0.5, 100: 1.0}),
    ],
)
def test_the_schedule_is_a_function_of_the_step(
    options: dict[str, Any], wanted: dict[int, float]
) -> None:
    optimiser = OuterOptimiser(outer(**{"lr": 2.0, **options}), make_state())

    for step, factor in wanted.items():
        assert optimiser.lr(step) == pytest.approx(2.0 * factor)


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_no_schedule_ever_reaches_zero_or_goes_up_after_the_warm_up(schedule: str) -> None:
    options = outer(schedule=schedule, step_every=7, warmup_steps=10, lr=0.3)
    optimiser = OuterOptimiser(options, make_state())

    rates = [optimiser.lr(step) for step in range(1, 101)]

    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < min(rates) <= max(rates) <= 0.3


def test_the_learning_rate_of_a_step_is_used_in_it_and_reported() -> None:
    start = make_state()
    table = outer(optimiser="sgd", lr=1.0, schedule="step", step_every=1, step_gamma=0.5)
    optimiser = OuterOptimiser(table, start)

    facts = optimiser.update(3, make_sums(1), N_EPISODES)

    assert facts.lr == 0.25
    moved = start.params["layer.bias"] - optimiser.state.params["layer.bias"]
    assert torch.allclose(moved, 0.25 * make_sums(1)["params.layer.bias"] / N_EPISODES)


def norm(tensors: Params) -> float:
    return math.sqrt(sum(float((tensor.double() ** 2).sum()) for tensor in tensors.values()))


@pytest.mark.parametrize("clip_norm", [0.0, 0.1, 1e9])
def test_a_gradient_is_clipped_to_the_norm_and_reported_unclipped(clip_norm: float) -> None:
    start = make_state()
    mean_norm = norm({n: t for n, t in make_sums(1).items() if n.startswith("params.")}) / 5
    assert mean_norm > 0.1
    optimiser = OuterOptimiser(outer(optimiser="sgd", lr=1.0, clip_norm=clip_norm), start)

    facts = optimiser.update(1, make_sums(1), N_EPISODES)

    moved = norm({n: start.params[n] - t for n, t in optimiser.state.params.items()})
    assert facts.grad_norm == pytest.approx(mean_norm, rel=1e-6)
    assert moved == pytest.approx(clip_norm if clip_norm == 0.1 else mean_norm, rel=1e-5)


def test_a_huge_gradient_is_clipped_and_not_called_infinite() -> None:
    sums = {name: 1e30 * tensor for name, tensor in make_sums(1).items()}
    optimiser = OuterOptimiser(outer(optimiser="sgd", lr=1.0, clip_norm=1.0), make_state())

    facts = optimiser.update(1, sums, 1)

    assert 1e29 < facts.grad_norm < 1e32
    moved = {n: make_state().params[n] - t for n, t in optimiser.state.params.items()}
    assert norm(moved) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(value: float) -> None:
    optimiser = OuterOptimiser(outer(clip_norm=1.0), make_state())
    sums = make_sums(1)
    sums["params.layer.weight"][1, 2] = value

    with pytest.raises(NumericsError, match=f"outer step 9: .* is {value}; lower outer.lr"):
        optimiser.update(9, sums, N_EPISODES)

    assert bits(optimiser.state) == bits(make_state())
    assert optimiser.moments() == {}


def test_running_statistics_move_a_tenth_of_the_way_to_the_mean() -> None:
    start = make_state()
    optimiser = OuterOptimiser(outer(), start)

    optimiser.update(1, make_sums(1), N_EPISODES)

    mean = make_sums(1)["buffers.norm.mean"] / N_EPISODES
    wanted = 0.9 * start.buffers["norm.mean"] + 0.1 * mean
    assert torch.allclose(optimiser.state.buffers["norm.mean"], wanted)
