"""Links that lead out of a folder are reported, and read as before."""

from pathlib import Path

from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from tests.folders import class_folders, picture, write


def notes(folder: Path) -> list[str]:
    found = read_items(folder, FolderOptions()).notes
    return [note for note in found if note.startswith("links out")]


def test_links_out_of_a_folder_are_counted_and_followed(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", items=2)
    write(tmp_path / "other", {"a.png": picture(1), "deep/b.png": picture(2)})
    first, second, *_ = sorted(path for path in folder.iterdir() if path.is_dir())
    (first / "out.png").symlink_to(tmp_path / "other/a.png")
    (second / "more").symlink_to(tmp_path / "other/deep")

    (note,) = notes(folder)

    assert "2 files" in note and str(tmp_path / "other/a.png") in note
    names = {item.where for item in read_items(folder, FolderOptions()).items}
    assert {f"{first.name}/out.png", f"{second.name}/more/b.png"} <= names


def test_links_within_a_folder_and_to_a_folder_are_not_reported(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", items=2)
    first, second, *_ = sorted(path for path in folder.iterdir() if path.is_dir())
    (first / "same.png").symlink_to(next(second.glob("*.png")))
    (tmp_path / "link").symlink_to(folder)

    assert not notes(folder)
    assert not notes(tmp_path / "link")
