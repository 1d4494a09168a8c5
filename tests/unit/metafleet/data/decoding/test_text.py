"""Texts become bytes, or features."""

from tests.unit.metafleet.data.decoding.samples import (
    decode,
)


def test_a_text_is_its_bytes():
    row = decode("text", "\ufeff  größer ".encode(), max_bytes=12)

    assert bytes(row) == "größer".encode() + bytes(4)
    assert bytes(decode("text", "ab€".encode(), max_bytes=4)) == b"ab\0\0"  # no half character
