"""The command that prepares the data of a row."""

from typing import Any

import pytest

from metafleet.orchestrator.ledger.preparing import prepare_command


@pytest.mark.parametrize(
    ("data", "command"),
    [
        ({"name": "sinusoid"}, ""),
        ({"name": "glyphs"}, ""),
        ({"name": "fsdd", "root": "/mine"}, "metafleet data prepare fsdd"),
        (
            {"name": "fsdd", "audio": {"encoder": "package:speech-embedding"}},
            "metafleet data prepare fsdd --set audio.encoder=package:speech-embedding",
        ),
        (
            {"name": "concepts", "modalities": ["image"]},
            "metafleet data prepare concepts --set 'modalities=[\"image\"]' --set root=FOLDER",
        ),
        (
            {"name": "folder", "imported": "pets", "image": {"side": 28}},
            "metafleet data import FOLDER --name pets --set image.side=28",
        ),
        (
            {"name": "mixture", "parts": [{"name": "omniglot"}, {"name": "sinusoid"}]},
            "metafleet data prepare omniglot",
        ),
        ({"name": "own.package:Data"}, ""),
    ],
)
def test_the_command_names_what_the_data_depend_on(data: dict[str, Any], command: str) -> None:
    assert prepare_command(data) == command
