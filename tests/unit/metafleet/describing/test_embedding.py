"""Embeddings of data sets by features with known statistics."""

import numpy as np
import pytest
import torch

from metafleet.describing.embedding import LENGTH, embed
from metafleet.describing.episodes import find_sample, small
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.episodes.source import EpisodeSource

N_CLASSES, N_EACH, N_FEATURES = 10, 20, 24


def source_of(features: torch.Tensor) -> EpisodeSource:
    rows = [ClassRows(N_EACH * c, N_EACH) for c in range(N_CLASSES)]
    modality = Modality((N_FEATURES,), lambda chosen: features[torch.as_tensor(chosen)], None)
    return ClassEpisodeSource({"f": modality}, {"meta_train": rows}, name="test")


def embedded(*, spread: float) -> tuple[float, ...]:
    """Embed classes with random centres; items differ from them by normal noise."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(N_CLASSES, N_FEATURES, generator=generator)
    noise = torch.randn(N_CLASSES * N_EACH, N_FEATURES, generator=generator)
    features = centres.repeat_interleave(N_EACH, dim=0) + spread * noise
    sample = find_sample(source_of(features), 5)
    assert not isinstance(sample, str)
    found = embed(sample, "f")
    assert found is not None
    return found


def test_spread_classes_vary_more_within_and_less_between() -> None:
    tight, wide = embedded(spread=0.1), embedded(spread=2.0)

    assert len(tight) == len(wide) == LENGTH
    assert tight[-3] < 0.1 < wide[-3]  # within classes
    assert tight[-2] > wide[-2]  # between prototypes
    assert tight[-1] < wide[-1] <= 1.0  # dimensions: ten centres against all features


def test_an_embedding_is_the_same_again() -> None:
    assert embedded(spread=0.5) == embedded(spread=0.5)


def test_large_pictures_are_averaged_and_small_ones_are_kept() -> None:
    large = torch.rand(3, 3, 64, 48)
    kept = torch.rand(3, 1, 28, 28)

    assert small(kept) is kept
    assert small(large).shape == (3, 3, 16, 16)
    assert small(large).mean().item() == pytest.approx(large.mean().item(), abs=1e-5)
    assert np.allclose(small(large)[0, 0, 0, 0], large[0, 0, :4, :3].mean(), atol=1e-6)
