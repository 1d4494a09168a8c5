"""Texts become bytes, or features."""

import numpy as np

from tests.unit.metafleet.data.decoding.samples import (
    decode,
)


def test_a_text_is_its_bytes():
    row = decode("text", "\ufeff  größer ".encode(), max_bytes=12)

    assert bytes(row) == "größer".encode() + bytes(4)
    assert bytes(decode("text", "ab€".encode(), max_bytes=4)) == b"ab\0\0"  # no half character


def test_sentences_of_one_meaning_have_features_that_are_alike():
    queries = (
        "how do I freeze my bank account",
        "please block my account at the bank",
        "will it rain in Paris",
    )

    card, block, rain = (
        decode("text", text.encode(), encoder="minilm").astype(np.float64) for text in queries
    )

    np.testing.assert_allclose([card @ card, rain @ rain], 1, atol=1e-2)
    assert card @ block > 0.5 > card @ rain
    again = decode("text", queries[0].encode(), encoder="minilm")
    np.testing.assert_array_equal(again, card)  # the same bits, whatever came before
