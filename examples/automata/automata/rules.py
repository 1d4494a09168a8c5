"""Elementary cellular automata: a class is a rule, an item is a picture of its evolution.

Each row of a picture follows from the one above it: a cell's next state is a bit of the rule's
number, selected by the cell and its two neighbours (Wolfram 1983,
doi:10.1103/RevModPhys.55.601).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RulesOptions:
    """Options of ``Rules``.

    Attributes:
        side: height and width of a picture, 8 or more.
        n_items: pictures of each rule, 2 or more.
    """

    side: int = 28
    n_items: int = 20

    def __post_init__(self) -> None:
        if self.side < 8 or self.n_items < 2:
            raise ValueError(f"{self}; expected side of 8 or more, n_items of 2 or more")


class Rules:
    """88 classes: the first of each group of rules that are mirror images or negatives."""

    Options = RulesOptions
    version = "1"

    def __init__(self, options: RulesOptions) -> None:
        self.options = options
        self.modalities = {"image": (1, options.side, options.side)}

    def classes(self, split: str) -> list[str]:
        """Return the rules of a split: one fifth each for validation and testing."""
        rules = [rule for rule in range(256) if rule == min(_alike(rule))]
        place = {"meta_val": [1], "meta_test": [2], "meta_train": [0, 3, 4]}[split]
        return [f"rule{rule:03d}" for number, rule in enumerate(rules) if number % 5 in place]

    def load_items(self, class_name: str) -> np.ndarray:
        """Return uint8 [n_items, 1, side, side]; each starts with a random row, live is 255."""
        rule, side = int(class_name.removeprefix("rule")), self.options.side
        next_state = np.array([rule >> bits & 1 for bits in range(8)], np.uint8)
        rng = np.random.default_rng(rule)
        rows = [rng.integers(0, 2, (self.options.n_items, side), np.uint8)]
        for _ in range(side - 1):
            left, right = np.roll(rows[-1], 1, axis=1), np.roll(rows[-1], -1, axis=1)
            rows.append(next_state[4 * left + 2 * rows[-1] + right])
        return 255 * np.stack(rows, axis=1)[:, None]


def _alike(rule: int) -> set[int]:
    """Return the rules that are equal up to mirroring, swapping dark and light, or both."""
    mirrored = sum((rule >> bits & 1) << _mirror(bits) for bits in range(8))
    return {rule, mirrored, _negative(rule), _negative(mirrored)}


def _mirror(bits: int) -> int:
    return (bits & 1) << 2 | bits & 2 | bits >> 2


def _negative(rule: int) -> int:
    return sum((1 - (rule >> bits & 1)) << (7 - bits) for bits in range(8))
