"""The interface of episode sources."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from metafleet.episode import Episode, EpisodeShape
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng


class EpisodeSource(Protocol):
    """A source of episodes. Read-only, and safe to share between threads."""

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of one example in each modality, decoded to float32."""
        ...

    @property
    def texts(self) -> frozenset[str]:
        """Modalities whose examples are bytes of a text, padded with zeros."""
        return frozenset()

    @property
    def kinds(self) -> Mapping[str, str]:
        """Modality -> its kind, for modalities that are not named after it."""
        return {}

    @property
    def target_dim(self) -> int:
        """Values to predict for each example; 0 for classification."""
        ...

    def n_classes(self, split: str) -> int:
        """Return the number of classes in ``split``; 0 for regression."""
        ...

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Check that ``split`` can fill episodes of this shape.

        Raises:
            ConfigError: the split has too few classes or items. The message gives the episode's
                shape, the numbers of classes or items that the split has, and the number to lower.
        """
        ...

    def training_mean(self, modality: str) -> Tensor:
        """Return the mean example of meta-training; zeros if the source has no fixed items."""
        return torch.zeros(self.modalities[modality])

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses.

        Raises:
            ConfigError: for the same reasons as ``check``.
        """
        ...


def check_counts(shape: EpisodeShape) -> None:
    """Check that an episode has support and query examples.

    Raises:
        ConfigError: ``k_shot`` or ``n_query`` is below 1.
    """
    for option, value in (("k_shot", shape.k_shot), ("n_query", shape.n_query)):
        if value < 1:
            raise ConfigError(f"{option}={value}; expected 1 or more")
