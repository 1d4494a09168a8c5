import random

import numpy as np
import pytest
import torch

from metafleet.purity.generators import Generators

DRAWS = {
    "torch": lambda: float(torch.rand(())),
    "NumPy": lambda: float(np.random.standard_normal()),
    "Python's random": random.random,
}


@pytest.mark.parametrize("library", DRAWS)
@pytest.mark.parametrize("n_before", [0, 1, 624])
def test_a_draw_is_noticed_and_can_be_made_again(library: str, n_before: int) -> None:
    generators = Generators(["cpu"])
    draw = DRAWS[library]
    with generators.kept():
        for _ in range(n_before):  # NumPy draws normal numbers in pairs, and keeps the second
            draw()
        states = generators.capture()
        assert generators.drew(states) == ""

        drawn = [draw() for _ in range(3)]
        assert generators.drew(states) == library
        generators.restore(states)

        assert generators.drew(states) == ""
        assert [draw() for _ in range(3)] == drawn


def test_the_second_of_a_pair_of_normal_numbers_is_a_draw() -> None:
    generators = Generators()
    with generators.kept():
        np.random.seed(0)
        np.random.standard_normal()
        states = generators.capture()
        second = np.random.standard_normal()

        assert generators.drew(states) == "NumPy"
        generators.restore(states)
        assert np.random.standard_normal() == second


def test_a_seed_is_that_of_torch_and_generators_are_given_back() -> None:
    generators = Generators()
    before = generators.capture()
    with generators.kept():
        generators.seed((1 << 63) + 5)
        first = [draw() for draw in DRAWS.values()]
        torch.manual_seed((1 << 63) + 5)
        assert float(torch.rand(())) == first[0]
        generators.seed((1 << 63) + 5)
        assert [draw() for draw in DRAWS.values()] == first
    assert generators.drew(before) == ""
