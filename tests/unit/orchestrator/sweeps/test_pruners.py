"""Pruners end trials that are behind, by the validations alone."""

import math
import random

import pytest

from metafleet.orchestrator.sweeps.pruners import Curve, Pruner


def climbing(level: float, n_steps: int = 90) -> Curve:
    return Curve({step: level + step / 100 for step in range(10, n_steps + 1, 10)}, n_steps == 90)


def pruner(kind: str) -> Pruner:
    return Pruner(kind, "s", every=10, n_steps=90)


def test_the_median_pruner_ends_what_is_below_the_median_of_five_finished_trials() -> None:
    others = {number: climbing(level) for number, level in enumerate((0.1, 0.2, 0.3, 0.4, 0.5))}

    for level, expected in ((0.05, True), (0.29, True), (0.31, False), (0.6, False)):
        curves = others | {5: climbing(level, 40)}
        assert pruner("median").should_prune(5, curves) is expected
    few = {number: curve for number, curve in others.items() if number < 4}
    assert not pruner("median").should_prune(5, few | {5: climbing(0.0, 40)})


@pytest.mark.parametrize("kind", ["median", "hyperband"])
def test_nothing_is_ended_after_the_last_validation_or_without_one(kind: str) -> None:
    others = {number: climbing(0.5) for number in range(6)}

    assert not pruner(kind).should_prune(6, others | {6: climbing(-1.0, 90)})
    assert not pruner(kind).should_prune(6, others | {6: Curve({})})


@pytest.mark.parametrize("kind", ["median", "hyperband"])
def test_a_loss_that_is_not_a_number_is_ended(kind: str) -> None:
    curves = {number: climbing(0.5) for number in range(6)}
    # the bracket of a trial decides when Hyperband looks at it: at step 30 at the latest
    ended = [
        pruner(kind).should_prune(n, curves | {n: Curve({10: 0.1, 20: 0.1, 30: math.nan})})
        for n in range(6, 12)
    ]
    assert all(ended) if kind == "median" else any(ended)


def test_hyperband_keeps_about_a_third_and_the_best() -> None:
    draw = random.Random(1)
    levels = [draw.random() for _ in range(40)]
    curves: dict[int, Curve] = {}
    ended = set()
    for number, level in enumerate(levels):
        for n_steps in range(10, 91, 10):
            curves[number] = climbing(level, n_steps)
            if pruner("hyperband").should_prune(number, curves):
                ended.add(number)
                break
    finished = [level for number, level in enumerate(levels) if number not in ended]
    assert 10 < len(ended) < 38
    assert sum(finished) / len(finished) > sum(levels) / len(levels)
    assert max(levels) in finished


@pytest.mark.parametrize("kind", ["median", "hyperband"])
def test_the_verdict_does_not_depend_on_the_order_of_the_rows(kind: str) -> None:
    curves = {number: climbing(0.1 * (number % 5), 90) for number in range(8) if number != 3}
    curves[9] = climbing(0.15, 30)
    backwards = {
        number: Curve(dict(reversed(curve.by_step.items())), curve.is_finished)
        for number, curve in reversed(curves.items())
    }
    assert pruner(kind).should_prune(9, curves) == pruner(kind).should_prune(9, backwards)
