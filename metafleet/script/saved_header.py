"""What a file of ``MetaLearner.save`` says besides its tensors, every value of it checked.

A header holds a digest of itself, and one of the tensors. Whoever writes a right digest over wrong
values still makes nothing but a ``CheckpointError``, and no allocation beyond ``_MOST_BYTES``.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.errors import CheckpointError
from metafleet.script.plain_episode import MOST_CLASSES

FORMAT: Final = 2
_MOST_STEPS: Final = 2**53
_MOST_DIMENSIONS: Final = 8
_LARGEST_COUNT: Final = 2**40
_MOST_BYTES: Final = 2**28
"""Of the examples that a ``MetaLearner`` is bound to when it loads a file."""
_DTYPES: Final = ("float32", "float64", "bfloat16", "float16", "int64")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says besides tensors.

    Attributes:
        algorithm, options: of the learner.
        step: outer steps done.
        n_support: examples that it was bound to.
        inputs: input -> shape of one example and dtype, such as "float32"; none where a training
            loop's losses alone were seen.
        n_way: classes; 0 where targets are values, target_dim of them for each example.
        target_dim: see ``n_way``.
        groups: the optimiser's groups without their parameters.
        scalars: numbers that the optimiser keeps, "<index>.<moment>" -> value.
        tensors: digest of the tensors.
    """

    algorithm: str
    options: dict[str, Any]
    step: int
    n_support: int
    inputs: dict[str, tuple[list[int], str]]
    n_way: int
    target_dim: int
    groups: list[dict[str, Any]]
    scalars: dict[str, float]
    tensors: str

    def to_text(self) -> str:
        """Give JSON that ``from_text`` takes back."""
        values = {**dataclasses.asdict(self), "format": FORMAT}
        return json.dumps({**values, "digest": _digest(values)})

    @classmethod
    def from_text(cls, text: str, path: Path) -> "Header":
        """Read what ``to_text`` wrote.

        Args:
            text: JSON.
            path: where it is from, for messages.

        Raises:
            CheckpointError: it is something else, damaged, or of another version.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict) or "format" not in values:
            raise CheckpointError(
                f"{path} was not written by MetaLearner.save; expected a file that was"
            )
        if values["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {values['format']!r:.20}; this version reads {FORMAT}: learn "
                "it again, or use the version that wrote it"
            )
        if values.pop("digest", None) != _digest(values):
            raise CheckpointError(
                f"{path} is damaged: its header does not hash to its digest; use another copy"
            )
        del values["format"]
        if problem := _problem(values):
            raise CheckpointError(f"{path} is damaged: {problem}; use another copy")
        inputs = {name: (list(shape), dtype) for name, (shape, dtype) in values["inputs"].items()}
        return cls(**{**values, "inputs": inputs})

    def example(self, like: Tensor) -> tuple[ExampleSet, int]:
        """Return examples, zeros, of the shapes that were learned from, and their n_way.

        Raises:
            CheckpointError: they would take more memory than is sound.
        """
        n = self.n_support
        n_bytes = 8 * n * (self.target_dim + sum(math.prod(s) for s, _ in self.inputs.values()))
        if n_bytes > _MOST_BYTES:
            raise CheckpointError(
                f"the support set that was learned from has {n} examples, up to {n_bytes} bytes; "
                f"expected {_MOST_BYTES} or less: call bind with a support set before load"
            )
        inputs = {
            # floats as precise as the module, as they come from a script
            name: torch.zeros(n, *shape, dtype=torch.int64 if dtype == "int64" else like.dtype)
            for name, (shape, dtype) in self.inputs.items()
        }
        inputs = {name: value.to(like.device) for name, value in inputs.items()}
        if self.n_way > 0:
            targets = torch.arange(n, device=like.device) % self.n_way
            return ExampleSet(inputs, targets), self.n_way
        return ExampleSet(inputs, like.new_zeros(n, self.target_dim)), 0


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _problem(values: Mapping[str, Any]) -> str:
    """Say what is wrong with a header's values; "" when nothing is."""
    expected = {field.name for field in dataclasses.fields(Header)}
    if values.keys() != expected:
        return f"its header has {sorted(values.keys() ^ expected)[0]!r:.40} too much or too little"
    wrong = [name for name, is_right in _CHECKS.items() if not is_right(values[name])]
    if wrong:
        return f"{wrong[0]} is {values[wrong[0]]!r:.60}"
    return ""


def _is_count(value: Any, *, least: int = 0, most: int = _LARGEST_COUNT) -> bool:
    return type(value) is int and least <= value <= most


def _are_inputs(values: Any) -> bool:
    return isinstance(values, dict) and all(map(_is_input, values.values()))


def _is_input(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], list)
        and len(value[0]) <= _MOST_DIMENSIONS
        and all(map(_is_count, value[0]))
        and value[1] in _DTYPES
    )


def _are_groups(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _are_scalars(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(v, int | float) for v in values.values())


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "algorithm": lambda value: isinstance(value, str),
    "options": lambda value: isinstance(value, dict),
    "step": partial(_is_count, most=_MOST_STEPS),
    "n_support": partial(_is_count, least=1),
    "inputs": _are_inputs,
    "n_way": partial(_is_count, most=MOST_CLASSES),
    "target_dim": _is_count,
    "groups": _are_groups,
    "scalars": _are_scalars,
    "tensors": lambda value: isinstance(value, str),
}
