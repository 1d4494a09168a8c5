"""The problem that a learner is built for: shapes of data and episodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from torch import Tensor

from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError
from metafleet.options import require

LossFn: TypeAlias = Callable[[Any, Any], Tensor]
"""Outputs [n, ...] and targets [n, ...] -> a scalar to minimise: a mean over n."""

FEATURES = "features"
"""Kind of a modality whose examples are rows of features of a pretrained encoder."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The shapes of a run's data and episodes.

    Attributes:
        modalities: modality -> shape of one example.
        target_dim: values to predict for each example; 0 for classification.
        episodes: split -> shape of its episodes.
        loss: the loss that inner and outer steps minimise. None selects the mean cross-entropy, or
            the mean squared error in regression.
        partial: modalities that not every episode has, as in a mixture of data sets.
        texts: modalities whose examples are the bytes of a text: [length], 0 to 255, with zeros
            after the end. All other modalities hold numerical quantities.
        kinds: modality -> its kind, such as "image". A modality may be left out of this mapping if
            its name is its kind.
        shown: description of a kind of example -> the modalities that such an example may have. The
            description is used in messages.
        added: modalities that are not in the data, but are extra inputs that a learner gives its
            model.
        label_separator: text that separates the labels of an item, if items can have several
            labels; "" if each item has exactly one class.
        training_mean: modality -> mean of its examples over the items of meta-training. Models use
            it for initial parameters that depend on the data. None if the data are not available.
    """

    modalities: Mapping[str, tuple[int, ...]]
    target_dim: int
    episodes: Mapping[str, EpisodeShape]
    loss: LossFn | None = None
    partial: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    kinds: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    added: frozenset[str] = frozenset()
    label_separator: str = ""
    training_mean: Callable[[str], Tensor] | None = None

    def __post_init__(self) -> None:
        for split, shape in self.episodes.items():
            where = f" in {split!r}"
            require(shape.k_shot >= 1, "k_shot", shape.k_shot, f"1 or more{where}")
            require(shape.n_query >= 1, "n_query", shape.n_query, f"1 or more{where}")
            if self.is_regression and shape.n_way != 0:
                raise ConfigError(
                    f"n_way={shape.n_way} in {split!r} but the data are regression; set n_way=0"
                )
            if not self.is_regression and shape.n_way < 2:
                raise ConfigError(
                    f"n_way={shape.n_way} in {split!r} but the data are classification; "
                    "expected 2 or more"
                )

    @property
    def is_multi_label(self) -> bool:
        """Whether an item may have several labels. Targets are then [n, n_way] of 0 and 1."""
        return bool(self.label_separator)

    @property
    def is_regression(self) -> bool:
        """Whether targets are real values, not classes."""
        return self.target_dim > 0

    def with_inputs(self, extra: Mapping[str, tuple[int, ...]]) -> "Problem":
        """Return the problem with extra modalities: inputs that a learner gives its model."""
        modalities = {**self.modalities, **extra}
        return replace(self, modalities=modalities, added=self.added | extra.keys())

    def fixed_outputs(self, learner: str) -> int:
        """Return the number of outputs of a head whose size is the same in every split.

        Raises:
            ConfigError: splits differ in n_way.
        """
        if self.is_regression:
            return self.target_dim
        n_ways = {split: shape.n_way for split, shape in self.episodes.items()}
        if len(set(n_ways.values())) != 1:
            found = ", ".join(f"{split} has n_way={n}" for split, n in n_ways.items())
            raise ConfigError(
                f"learner {learner!r} learns an output layer of fixed size, but {found or 'none'}; "
                "give every split the same n_way or choose a learner such as 'protonet'"
            )
        return next(iter(n_ways.values()))
