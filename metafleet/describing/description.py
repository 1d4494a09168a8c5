"""The description of a data set: its meta-features."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from metafleet.errors import DataCorruptError

VERSION: Final = 1
"""Version of the description. Change it when a meta-feature is computed in another way."""


@dataclass(frozen=True, slots=True)
class Landmark:
    """The mean result of a simple, untrained learner on episodes of meta-training.

    Attributes:
        inputs: "raw" for the items themselves, "frozen" for features of pretrained encoders.
        measure: "accuracy" in [0, 1] of nearest prototypes; or, in regression, "explained", the
            share of the variance of the targets that the value of the nearest support point
            explains, which may be negative.
        n_way, k_shot: size of the episodes; n_way is 0 in regression.
        episodes: number of episodes.
        mean, ci95: mean over episodes, and half the width of its 95 % confidence interval.
    """

    inputs: str
    measure: str
    n_way: int
    k_shot: int
    episodes: int
    mean: float
    ci95: float

    @property
    def above_chance(self) -> float:
        """The mean, scaled so that 0 is chance and 1 is perfect."""
        chance = 1 / self.n_way if self.n_way else 0.0
        return (self.mean - chance) / (1 - chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The meta-features of a data set with given options.

    Attributes:
        name: the data set's name.
        digest: digest of the data and their split, as runs record it.
        figures: name -> number; ``metafleet.describing.figures`` defines them.
        landmarks: results of simple learners.
        embeddings: encoder -> embedding of the data set by the features of this encoder. An
            embedding has ``metafleet.describing.embedding.LENGTH`` numbers.
        notes: what could not be computed, and why.
        version: version of the description.
    """

    name: str
    digest: str
    figures: Mapping[str, float]
    landmarks: tuple[Landmark, ...] = ()
    embeddings: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> "Description":
        """Parse the values that ``to_json`` returned.

        Raises:
            DataCorruptError: the values are no description.
        """
        try:
            return cls._parsed(dict(values))  # type: ignore[call-overload]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataCorruptError(
                f"a description of data cannot be read ({error!r:.80}); "
                "run `metafleet data describe` again"
            ) from error

    @classmethod
    def _parsed(cls, values: dict[str, Any]) -> "Description":
        landmarks = tuple(Landmark(**each) for each in values["landmarks"])
        embeddings = {
            encoder: tuple(map(float, numbers)) for encoder, numbers in values["embeddings"].items()
        }
        read = {"landmarks": landmarks, "embeddings": embeddings, "notes": tuple(values["notes"])}
        return cls(**{**values, **read})
