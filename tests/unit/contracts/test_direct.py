"""Tokens of direct transfers: each for one request and one key."""

import pytest

from metafleet.contracts.direct import authorization, is_same, proof, state_target, sum_target

TARGET = sum_target("mf:run:sum", 10)


def test_a_token_is_for_one_key_method_blob_and_length() -> None:
    token = authorization("key", "PUT", TARGET)
    others = [
        authorization("another key", "PUT", TARGET),
        authorization("key", "HEAD", TARGET),
        authorization("key", "PUT", sum_target("mf:run:sum", 11)),
        authorization("key", "PUT", sum_target("mf:run:another", 10)),
        authorization("key", "PUT", state_target("mf:run:sum", 10)),
        f"Bearer {proof('key', 'PUT', TARGET)}",
    ]

    assert token == authorization("key", "PUT", TARGET)
    assert token not in others
    assert len(set(others)) == len(others)


def test_a_token_does_not_show_the_key() -> None:
    assert "secret" not in authorization("secret", "GET", TARGET) + proof("secret", "GET", TARGET)


@pytest.mark.parametrize("key", ["mf:run:1", "a/b", "a?b#c", "100%", "é"])
def test_any_key_makes_one_segment_of_a_path(key: str) -> None:
    target = state_target(key, 5)

    assert target.isascii()
    assert target.count("/") == 3
    assert not set("?# ") & set(target)


def test_tokens_are_compared_whatever_characters_they_have() -> None:
    assert is_same("é", "é")
    assert not is_same("é", "e")
