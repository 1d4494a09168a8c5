"""Strategies to execute episodes; part of a run's description, because they affect arithmetic."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from metafleet.errors import ContractError
from metafleet.options import parse_record, require

StrategyName = Literal["autograd", "vmap", "compiled", "constant_memory"]
Precision = Literal["float32", "bfloat16"]
STRATEGIES: Final[tuple[StrategyName, ...]] = ("autograd", "vmap", "compiled", "constant_memory")
PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16")
LARGEST_CHUNK: Final = 64
"""Larger chunks are not faster, and take proportionally more memory."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How episodes are executed. Every field affects the last bits of a gradient.

    Attributes:
        name: "autograd" computes episodes one by one, by autograd. "vmap" computes a chunk of
            episodes at once. "compiled" also computes a chunk at once, in machine code compiled for
            it. "constant_memory" computes episodes one by one and recomputes inner steps in the
            backward pass.
        precision: "float32", or "bfloat16" for matrix products and convolutions; parameters, sums
            and all other operations then stay in float32.
        chunk: number of episodes that are mapped at a time, >= 1; 0 maps all episodes of a call
            together. Strategies that execute episodes one by one ignore this field.
    """

    name: StrategyName = "autograd"
    precision: Precision = "float32"
    chunk: int = 0

    def __post_init__(self) -> None:
        require(self.chunk >= 0, "chunk", self.chunk, "0 or more")

    @property
    def is_compiled(self) -> bool:
        """Whether the bits of the result depend on a compiler."""
        return self.name == "compiled"

    @property
    def is_mapped(self) -> bool:
        """Whether several episodes are computed at once."""
        return self.name in ("vmap", "compiled")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> "Strategy":
        """Make a strategy from the values that ``to_json`` returned.

        Raises:
            ContractError: the values do not describe a strategy.
        """
        if not isinstance(values, Mapping) or set(values) != set(cls.__dataclass_fields__):
            raise ContractError(
                f"execution is {values!r}; expected {', '.join(cls.__dataclass_fields__)}"
            )
        return parse_record(cls, values, where="execution", error=ContractError)
