"""The name of a way to execute episodes: part of a run's arithmetic, so of its description."""

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
"""Beyond it, a chunk gains nothing more and takes memory in proportion."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How episodes are executed. Every field touches the last bits of a gradient.

    Attributes:
        name: "autograd": one by one, recorded and walked back; "vmap": chunks of them mapped as
            one; "compiled": such a chunk as machine code; "constant_memory": one by one, inner
            steps recomputed on the way back.
        precision: "float32", or "bfloat16" for matrix products and convolutions, with parameters,
            sums and everything else in float32.
        chunk: episodes mapped at a time, >= 1; 0: as many as come together. Without meaning for
            strategies that go one by one.
    """

    name: StrategyName = "autograd"
    precision: Precision = "float32"
    chunk: int = 0

    def __post_init__(self) -> None:
        require(self.chunk >= 0, "chunk", self.chunk, "0 or more")

    @property
    def is_compiled(self) -> bool:
        """True when a compiler has a part in the bits."""
        return self.name == "compiled"

    @property
    def is_mapped(self) -> bool:
        """True when episodes are computed several at a time."""
        return self.name in ("vmap", "compiled")

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values that ``from_json`` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> "Strategy":
        """Read what ``to_json`` wrote.

        Raises:
            ContractError: it is not the description of a strategy.
        """
        if not isinstance(values, Mapping) or set(values) != set(cls.__dataclass_fields__):
            raise ContractError(
                f"execution is {values!r}; expected {', '.join(cls.__dataclass_fields__)}"
            )
        return parse_record(cls, values, where="execution", error=ContractError)
