"""Where a model comes from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from metafleet.errors import ModelError
from metafleet.options import parse_record


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of the training.

    Attributes:
        run: uid of the run; "" where there was none.
        name: of the run.
        step: outer steps that the state has seen.
        seed: of the run.
        data: name of the data set.
        data_digest: sha256 of its arrays, classes and split.
        code: version and commit that trained.
        packages: package -> version that trained.
    """

    run: str = ""
    name: str = ""
    step: int = 0
    seed: int = 0
    data: str = ""
    data_digest: str = ""
    code: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that ``from_json`` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Provenance":
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: it is something else.
        """
        return parse_record(cls, values, where="the origin", error=ModelError)
