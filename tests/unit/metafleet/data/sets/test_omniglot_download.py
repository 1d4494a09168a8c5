import dataclasses

import pytest

from metafleet.data.registry import open_data
from metafleet.data.sets import omniglot
from metafleet.data.sets.omniglot import IMAGE_FILES, STROKE_FILES
from metafleet.errors import DataCorruptError

PINNED = IMAGE_FILES + STROKE_FILES


@pytest.fixture
def requested(monkeypatch):
    """Answer downloads with files that are no zips; list what was asked for."""
    names = []

    def fake(remote, folder, *, progress=None):
        names.append(remote.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / remote.name).write_bytes(b"not a zip")

    monkeypatch.setattr(omniglot, "download", fake)
    return names


def test_the_pins_are_https_and_complete():
    assert len({remote.sha256 for remote in PINNED}) == len(PINNED) == 4
    for remote in PINNED:
        assert remote.url.startswith("https://") and remote.url.endswith(f"/{remote.name}")
        assert len(bytes.fromhex(remote.sha256)) == 32
        assert remote.n_bytes > 1_000_000
        assert dataclasses.is_dataclass(remote)


@pytest.mark.parametrize(
    ("modalities", "files"), [(["image"], PINNED[:2]), (["stroke", "image"], PINNED)]
)
def test_only_what_is_needed_is_downloaded_and_what_came_is_checked(
    requested, tmp_path, modalities, files
):
    options = {"name": "omniglot", "modalities": modalities}
    assert not open_data(options, tmp_path).is_ready()

    with pytest.raises(DataCorruptError, match="is damaged: its directory cannot be read"):
        open_data(options, tmp_path).prepare()

    assert requested == [remote.name for remote in files]
    assert not (tmp_path / "prepared").exists() or not list((tmp_path / "prepared").glob("omni*"))
