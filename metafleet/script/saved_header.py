"""The header of a file of ``MetaLearner.save``.

A header holds a digest of its own values and a digest of the tensors. An attacker can forge both
digests. Loading a forged file is also safe. At worst, it takes ``_MOST_BYTES`` of memory or raises
a ``CheckpointError``.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from metafleet.digests import json_sha256
from metafleet.episode import ExampleSet
from metafleet.episodes.class_targets import MOST_CLASSES
from metafleet.errors import CheckpointError
from metafleet.options import parse_options, require

FORMAT: Final = 2
_MOST_STEPS: Final = 2**53
_MOST_BYTES: Final = 2**28
"""Limit for the examples that bind a ``MetaLearner`` when it loads a file."""


@dataclass(frozen=True, slots=True)
class SavedHeader:
    """The contents of a file other than its tensors.

    Attributes:
        algorithm, options: name and options of the learner.
        step: number of outer steps taken.
        n_support: number of examples in the support set to which the learner was bound.
        inputs: name of an input -> [shape of one example, dtype such as "float32"]. Empty if the
            learner was trained only on losses of a training loop.
        n_way: number of classes; 0 if targets are values.
        target_dim: number of values in one example's target.
        groups: the optimiser's parameter groups, without the parameters.
        scalars: numbers in the optimiser's state, "<index>.<moment>" -> value.
        tensors: digest of the tensors.

    Raises:
        ConfigError: a number is out of range.
    """

    algorithm: str
    options: Mapping[str, Any]
    step: int
    n_support: int
    inputs: Mapping[str, Any]
    n_way: int
    target_dim: int
    groups: tuple[Mapping[str, Any], ...]
    scalars: Mapping[str, float]
    tensors: str

    def __post_init__(self) -> None:
        require(0 <= self.step <= _MOST_STEPS, "step", self.step, f"0 to {_MOST_STEPS}")
        require(self.n_support >= 1, "n_support", self.n_support, "1 or more")
        require(0 <= self.n_way <= MOST_CLASSES, "n_way", self.n_way, f"0 to {MOST_CLASSES}")
        require(self.target_dim >= 0, "target_dim", self.target_dim, "0 or more")

    def to_text(self) -> str:
        """Return the header as JSON for ``from_text``."""
        values = {**dataclasses.asdict(self), "format": FORMAT}
        return json.dumps({**values, "digest": _digest(values)})

    @classmethod
    def from_text(cls, text: str) -> "SavedHeader":
        """Parse a header that ``to_text`` wrote.

        Raises:
            CheckpointError: the text is not a header, is damaged, or has another format version.
            ConfigError: a value has the wrong type, or is out of range.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict) or "format" not in values:
            raise CheckpointError(
                "it was not written by MetaLearner.save; expected a file that was"
            )
        if values["format"] != FORMAT:
            raise CheckpointError(
                f"it has format {values['format']!r:.20}; this version reads {FORMAT}: learn it "
                "again, or use the version that wrote it"
            )
        if values.pop("digest", None) != _digest(values):
            raise CheckpointError(
                "it is damaged: its header does not hash to its digest; use another copy"
            )
        del values["format"]
        return parse_options(cls, values, where="its header")

    def example(self, like: Tensor) -> tuple[ExampleSet, int]:
        """Return a support set of zeros in the shapes of the training data, and its n_way.

        Raises:
            CheckpointError: the support set would take more than ``_MOST_BYTES``.
        """
        n = self.n_support
        # a negative size must not offset a large one; a class takes one number per example
        sizes = [math.prod(max(size, 0) for size in shape) for shape, _ in self.inputs.values()]
        n_bytes = 8 * n * (max(self.target_dim, 1) + sum(sizes))
        if n_bytes > _MOST_BYTES:
            raise CheckpointError(
                f"the support set that was learned from has {n} examples, up to {n_bytes} bytes; "
                f"expected {_MOST_BYTES} or less: call bind with a support set before load"
            )
        inputs = {
            # floats have the module's precision, as in a script
            name: torch.zeros(n, *shape, dtype=torch.int64 if dtype == "int64" else like.dtype)
            for name, (shape, dtype) in self.inputs.items()
        }
        inputs = {name: value.to(like.device) for name, value in inputs.items()}
        if self.n_way > 0:
            targets = torch.arange(n, device=like.device) % self.n_way
            return ExampleSet(inputs, targets), self.n_way
        return ExampleSet(inputs, like.new_zeros(n, self.target_dim)), 0


def _digest(values: Mapping[str, Any]) -> str:
    return json_sha256(values)
