"""Find the items that a support set already contains."""

import hashlib
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT, ExampleSet, alike, presence_key
from metafleet.inference.input_spec import InputSpec

CLASS_NAMES: Final = (CLASS_TEXT, presence_key(CLASS_TEXT))
"""Inputs that follow the class of an example, so they are not part of the item."""
_TOLERANCES: Final = {"float32": 1e-5, "float16": 2.0**-10}
"""Type of stored features -> largest relative difference between two features of the same item.

The difference is relative to the norm of the features. Rounding to the next float16 moves a number
by at most this share.
"""


def same_items(
    support: ExampleSet, inputs: Mapping[str, Tensor], specs: Mapping[str, InputSpec]
) -> Tensor:
    """Return bool [items, examples]: whether an item is the same as a support example.

    Decoded items are the same if they are equal. Features of an encoder are also the same if they
    differ only in their last bits, because the last bits depend on the batch and on the machine.

    Args:
        support: the examples.
        inputs: modality -> [items, ...].
        specs: modality -> how the modality is read from files.
    """
    support, inputs = alike(support, inputs)
    n_items = len(next(iter(inputs.values())))
    same = torch.ones(n_items, len(support), dtype=torch.bool)
    for name, examples in support.inputs.items():
        if name in CLASS_NAMES:
            continue
        spec = specs.get(name)
        if spec is not None and spec.is_encoded:
            tolerance = _TOLERANCES[spec.decoder_options().storage]
            same &= _are_near(inputs[name], examples, tolerance)
        else:
            same &= _are_equal(inputs[name], examples)
    return same


def first_of_equal(inputs: Mapping[str, Tensor]) -> list[int]:
    """Return, for each item, the row of the first item with the same bits."""
    own = [values.numpy() for name, values in inputs.items() if name not in CLASS_NAMES]
    first: dict[bytes, int] = {}
    rows = []
    for row in range(len(own[0])):
        content = hashlib.sha256(b"".join(values[row].tobytes() for values in own))
        rows.append(first.setdefault(content.digest(), row))
    return rows


def without_copies(examples: ExampleSet) -> ExampleSet:
    """Keep the first of the examples that have the same class and the same bits."""
    first = first_of_equal(examples.inputs)
    pairs = list(zip(first, examples.targets.tolist(), strict=True))
    kept = {pair: row for row, pair in reversed(list(enumerate(pairs)))}
    return examples.rows(torch.tensor(sorted(kept.values())))


def _are_near(items: Tensor, examples: Tensor, tolerance: float) -> Tensor:
    wanted = items.flatten(1).double()
    apart = torch.cdist(wanted, examples.flatten(1).double())
    is_near: Tensor = apart <= tolerance * wanted.norm(dim=1, keepdim=True)
    return is_near


def _are_equal(items: Tensor, examples: Tensor) -> Tensor:
    """Compare the bytes of rows as keys, because comparing all pairs of large rows is slow."""
    numbers: dict[bytes, int] = {}
    first, second = (
        torch.tensor([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows.numpy()])
        for rows in (items, examples)
    )
    return first[:, None] == second[None, :]
