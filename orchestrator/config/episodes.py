"""Section [episodes]: the shape of episodes, and overrides for single splits."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from metafleet.episode import SPLITS, EpisodeShape
from metafleet.orchestrator.config.section import MOST_AT_ONCE, Section


class EpisodeOverride(Section):
    """Overrides of the episodes' shape for one split."""

    n_way: int | None = Field(default=None, ge=0, le=MOST_AT_ONCE)
    k_shot: int | None = Field(default=None, ge=1, le=MOST_AT_ONCE)
    n_query: int | None = Field(default=None, ge=1, le=MOST_AT_ONCE)
    shots: Literal["even", "uneven"] | None = None
    missing_rate: float | None = Field(default=None, ge=0, lt=1)
    support_modalities: list[str] | None = None
    query_modalities: list[str] | None = None
    class_text: bool | None = None
    parts: list[str] | None = None


class EpisodesSection(Section):
    """The shape of the episodes; see ``EpisodeShape``.

    Attributes:
        n_way: number of classes in an episode, >= 2; 0 for regression.
        k_shot: number of support examples of each class (in regression, of the function), >= 1.
        n_query: number of query examples of each class (in regression, of the function), >= 1.
        shots: with "even", each class has ``k_shot`` support examples. With "uneven", the ``n_way *
            k_shot`` support examples are distributed over the classes at random, and each class has
            at least one.
        missing_rate: probability with which an example loses each of its modalities, in [0, 1).
            Each example keeps at least one. In ``meta_train`` this is modality dropout; see
            docs/reference/modalities.md.
        support_modalities, query_modalities: modalities that support examples and query examples
            show; [] for all modalities. If the two lists differ, the episodes are cross-modal.
        class_text: whether to add the name of each class to the support set, as modality
            ``class_text``. This is refused if a query can show a text that contains the name of the
            query's class.
        n_unknown: number of unknown classes in an episode, which have queries but no support
            examples; 0 for none. Unknown classes are used only to calibrate or judge the answer
            "none of these". The default is ``n_way``. If a split has too few further classes, the
            default is their number.
        parts: the parts of a mixture (data composed of several data sets) from which episodes are
            drawn; [] for all parts.
        meta_train, meta_val, meta_test: tables that override any of the options above for one
            split. An example is ``[episodes.meta_train]`` with ``n_way = 60``.
    """

    n_way: int = Field(ge=0, le=MOST_AT_ONCE)
    k_shot: int = Field(ge=1, le=MOST_AT_ONCE)
    n_query: int = Field(ge=1, le=MOST_AT_ONCE)
    shots: Literal["even", "uneven"] = "even"
    missing_rate: float = Field(default=0.0, ge=0, lt=1)
    support_modalities: list[str] = Field(default=[])
    query_modalities: list[str] = Field(default=[])
    class_text: bool = False
    n_unknown: int | None = Field(default=None, ge=0, le=MOST_AT_ONCE)
    parts: list[str] = Field(default=[])
    meta_train: EpisodeOverride = EpisodeOverride()
    meta_val: EpisodeOverride = EpisodeOverride()
    meta_test: EpisodeOverride = EpisodeOverride()

    @model_validator(mode="after")
    def _check_n_way(self) -> Self:
        for split in SPLITS:
            if (n_way := self.shape(split).n_way) == 1:
                raise ValueError(
                    f"n_way={n_way} in split {split!r}; expected an integer >= 2, "
                    "or 0 for regression"
                )
        return self

    def shape(self, split: str) -> EpisodeShape:
        """Return the shape of one split's episodes."""
        own: EpisodeOverride = getattr(self, split)
        values: dict[str, Any] = {}
        for name in EpisodeOverride.model_fields:
            value = getattr(self, name) if getattr(own, name) is None else getattr(own, name)
            values[name] = tuple(value) if isinstance(value, list) else value
        return EpisodeShape(**values)

    def key_of(self, field: str, split: str) -> str:
        """Return the key that sets a field of one split's shape: "k_shot" or "meta_test.k_shot"."""
        return field if getattr(getattr(self, split), field) is None else f"{split}.{field}"

    def changes_from(self, other: "EpisodesSection", split: str) -> dict[str, Any]:
        """Return key -> value of the fields in which a split's shape differs from ``other``."""
        mine, its = self.shape(split), other.shape(split)
        return {
            self.key_of(field, split): getattr(mine, field)
            for field in EpisodeOverride.model_fields
            if getattr(mine, field) != getattr(its, field)
        }
