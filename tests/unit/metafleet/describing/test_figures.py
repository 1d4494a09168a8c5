"""The evenness of classes."""

import math

import pytest

from metafleet.describing.figures import evenness


def test_evenness_is_the_entropy_of_class_sizes() -> None:
    shares = [0.5, 0.25, 0.25]
    entropy = -sum(share * math.log(share) for share in shares)

    assert evenness([10, 5, 5]) == pytest.approx(entropy / math.log(3))
    assert evenness([7, 7, 7]) == pytest.approx(1.0)
    assert evenness([4]) == 1.0 and evenness([4, 0]) == 1.0
