"""Distances between data sets."""

from dataclasses import replace

import pytest

from metafleet.describing.distance import Scale
from tests.advice import description

KNOWN = [description(0.3), description(0.5), description(0.9)]


def test_a_distance_is_symmetric_and_grows_with_the_difference() -> None:
    scale = Scale.of(KNOWN)
    low, middle, high = KNOWN

    assert scale.distance(low, low) == 0.0
    assert scale.distance(low, high) == scale.distance(high, low)
    assert scale.distance(low, middle) < scale.distance(low, high)


def test_distances_are_scaled_by_the_spread() -> None:
    first, second = description(0.3), description(0.5)
    # above chance: 0.125 and 0.375, whose standard deviation is 0.125
    assert Scale.of([first, second]).distance(first, second) == pytest.approx(2.0)


def test_another_kind_of_data_is_further_away() -> None:
    scale = Scale.of(KNOWN)
    same, other = description(0.5), description(0.5, kind="audio")

    assert scale.distance(KNOWN[0], other) > scale.distance(KNOWN[0], same)
    assert scale.distance(same, other) == pytest.approx(1.0)


def test_what_one_set_lacks_does_not_count() -> None:
    scale = Scale.of(KNOWN)
    without = replace(description(0.9), landmarks=())

    assert scale.distance(without, KNOWN[0]) == 0.0


def test_embeddings_count_if_the_encoder_is_the_same() -> None:
    scale = Scale.of(KNOWN)
    first = replace(description(0.5), embeddings={"a": (1.0, 0.0)})
    same = replace(first, embeddings={"a": (0.0, 2.0)})
    other = replace(first, embeddings={"b": (0.0, 2.0)})

    assert scale.distance(first, other) == 0.0
    assert scale.distance(first, same) == pytest.approx(1.0)  # (0 + 2) / 2 features, its root
