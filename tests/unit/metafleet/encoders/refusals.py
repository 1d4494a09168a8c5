"""What a refused encoder says."""

import pytest

from metafleet.encoders.base import PretrainedEncoder
from metafleet.errors import MetafleetError

SHAPE = (3, 32, 32)
"""Of the pictures that the tiny models take."""


def assert_refused_in_one_line(
    encoder: PretrainedEncoder, error: type[Exception], told: str
) -> None:
    """Identify and measure an encoder, of which one must fail with a message of one line."""
    with pytest.raises(MetafleetError) as caught:
        encoder.identity()
        encoder.n_features(SHAPE)

    assert isinstance(caught.value, error)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
