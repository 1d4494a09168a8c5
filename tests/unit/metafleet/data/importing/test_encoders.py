"""Encoders and labels that do not fit a folder are told before anything is decoded."""

from pathlib import Path

import pytest

from metafleet.data.importing.importer import import_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.errors import ConfigError
from tests.folders import class_folders, write


def test_an_encoder_of_a_kind_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pets")
    options = FolderOptions(
        path=str(folder), decoders={"video": {"encoder": "package:efficientnet-lite0"}}
    )

    with pytest.raises(ConfigError, match=r"video\.encoder=.* has no video; it has audio, image"):
        import_folder(options, tmp_path / "data", name="pets")
    assert not list((tmp_path / "data").glob("prepared/folder*"))


def test_class_names_that_look_like_several_labels_are_told(tmp_path: Path) -> None:
    rows = "".join(f"text {n},{'a;b' if n % 2 else 'b;c'}\n" for n in range(8))
    folder = write(tmp_path / "topics", {"metadata.csv": f"text,label\n{rows}"})

    report = import_folder(FolderOptions(path=str(folder)), tmp_path / "data", name="topics")

    assert any("--label-separator ';'" in note for note in report.notes)
