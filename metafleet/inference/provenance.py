"""The provenance of a model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from metafleet.errors import ModelError
from metafleet.options import parse_record


@dataclass(frozen=True, slots=True)
class Provenance:
    """The provenance of a learned state.

    Attributes:
        run: uid of the run; "" if there was none.
        name: name of the run.
        step: number of outer steps of training.
        seed: seed of the run.
        data: name of the data set or of the imported folder.
        data_digest: sha256 of the data set's arrays, classes and split.
        code: version and commit of the training code.
        packages: package -> version used in training.
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
        """Return the JSON values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Provenance":
        """Parse the values that ``to_json`` returned.

        Raises:
            ModelError: the values are damaged.
        """
        return parse_record(cls, values, where="the origin", error=ModelError)
