"""Log lines of attempts on their way through Redis, where others may write too."""

import zlib

import pytest

from metafleet.contracts.attempt_logs import MOST_CHARACTERS, AttemptLog, pack_log, parse_logs

NAME = b"train:1:7:2:0"


def test_lines_arrive_as_they_were_sent() -> None:
    found = parse_logs([NAME, pack_log("host:42", "first\n\tsecond \u5b57")])

    assert found == (AttemptLog("train", 1, 7, 2, 0, "host:42", "first\n\tsecond \u5b57"),)


def test_of_long_lines_the_end_is_kept() -> None:
    packed = pack_log("host:42", "start" + "x" * MOST_CHARACTERS + "end")

    (found,) = parse_logs([NAME, packed])

    assert found.text.startswith("... 8 earlier characters left out\n")
    assert found.text.endswith("xend") and len(found.text) < MOST_CHARACTERS + 100


def test_control_characters_cannot_reach_a_terminal() -> None:
    (found,) = parse_logs([NAME, pack_log("h\x07ost:42", "a\x1b[31mb\x00c\x9bd\re")])

    assert (found.worker, found.text) == ("h?ost:42", "a?[31mb?c?d?e")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"train:1:7:2", pack_log("w", "t")),
        (b"train:1:7:2:-1", pack_log("w", "t")),
        (b"\xff:1:7:2:0", pack_log("w", "t")),
        (NAME, b"not compressed"),
        (NAME, b""),
    ],
    ids=["short", "negative", "no-text", "plain", "empty"],
)
def test_what_workers_do_not_write_is_dropped(field: bytes, value: bytes) -> None:
    sound = (b"train:1:7:3:0", pack_log("w", "t"))

    assert [each.shard for each in parse_logs([field, value, *sound])][-1] == 3


def test_a_bomb_expands_to_the_limit_only() -> None:
    bomb = zlib.compress(b"w\n" + b"x" * 50_000_000)

    (found,) = parse_logs([NAME, bomb])

    assert len(found.text) < 5 * MOST_CHARACTERS
