"""Contact sheets show every kind of data, and what items lack."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from metafleet.data import registry
from metafleet.data.decoding.text import wrap
from metafleet.data.sets.glyph_faces import font_folder
from metafleet.data.sheet.sheet import draw_tile, tile_width
from metafleet.data.sheet.sheet_fonts import SheetFonts
from tests.folders import (
    OTHER_SEED,
    class_folders,
    clip,
    drawing,
    sentence,
    write,
)

RNG = np.random.default_rng(5)
ITEMS = {
    "image": RNG.integers(0, 256, (3, 8, 8), np.uint8),
    "audio": RNG.random((10, 20)).astype(np.float16),
    "video": RNG.integers(0, 256, (4, 3, 8, 8), np.uint8),
    "text": np.frombuffer("süß und 甘い\0\0\0".encode(), np.uint8),
    "stroke": np.array([[0.1, 0.1, 0], [0.9, 0.5, 1], [0.2, 0.8, 0], [0.5, 0.5, 1]], np.float16),
    "table": RNG.random(300).astype(np.float32),
    "series": RNG.standard_normal((40, 3)).astype(np.float32),
}


def colours(tile: Image.Image) -> int:
    return len(tile.getcolors(1 << 16) or [])


@pytest.mark.parametrize("kind", ITEMS)
def test_a_tile_shows_its_item_and_crosses_out_what_is_missing(kind: str) -> None:
    there, missing = draw_tile(ITEMS[kind], kind), draw_tile(None, kind)

    assert there.size == missing.size == (tile_width(kind), 56)
    assert colours(there) > 2 == colours(missing)
    assert there.tobytes() != missing.tobytes()


@pytest.mark.parametrize("kind", ["image", "audio", "table"])
def test_an_item_without_contrast_can_be_drawn(kind: str) -> None:
    assert draw_tile(np.zeros_like(ITEMS[kind]), kind).size == (56, 56)


def test_grey_pictures_and_features_of_texts_can_be_drawn() -> None:
    grey = draw_tile(ITEMS["image"][:1], "image")
    ink = draw_tile(ITEMS["image"][0], "image")
    features = draw_tile(RNG.standard_normal(384).astype(np.float16), "text")

    assert np.array_equal(np.asarray(grey)[4:-4, 4:-4], 255 - np.asarray(ink)[4:-4, 4:-4])
    assert features.size == (tile_width("text"), 56)


def test_texts_break_between_words_and_words_only_where_they_alone_are_too_long() -> None:
    def fits(line: str) -> bool:
        return len(line) <= 9

    assert wrap("amber delta  inlet", fits) == ["amber", "delta", "inlet"]
    assert wrap("a b\ncd efgh ij", fits) == ["a b", "cd efgh", "ij"]
    assert wrap("no incomprehensible", fits) == ["no", "incompreh", "ensible"]
    assert wrap("", fits) == []


def test_a_text_is_drawn_with_a_font_that_has_its_characters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = font_folder() / "DejaVuSans.ttf"
    other = font_folder() / "STIXGeneral.ttf"
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed = [str(tmp_path / "broken.ttf"), str(tmp_path / "gone.ttf"), str(other)]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    fonts = SheetFonts()

    def file_of(text: str) -> str:
        return str(getattr(fonts.load(text, 9), "path", ""))

    assert file_of("plain") == file_of("süß собака") == str(plain)
    assert file_of("\u2312 a") == str(other)  # of these two it alone has this sign
    assert fonts.note() == ""
    assert file_of("a\U000f0000\u732b") == file_of("\u732b") == str(plain)
    assert fonts.note() == (
        "1 character of the sheet is a box (\u732b): no font on this machine has all of their "
        "text; install one, such as those of Noto"
    )


def test_a_split_takes_no_more_room_than_its_classes(tmp_path: Path) -> None:
    names = [f"kind{n:02d}" for n in range(11)]
    for split, own in {"train": names[:7], "val": names[7:9], "test": names[9:]}.items():
        class_folders(tmp_path / "folder", classes=own, prefix=f"{split}/")
    options = {"name": "folder", "path": str(tmp_path / "folder")}

    registry.draw_sheet(options, tmp_path / "data", tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        inked = np.flatnonzero((np.asarray(sheet.convert("L")) < 250).any(axis=1))
    assert np.diff(inked).max() < 56  # no gap as high as a row


def test_a_sheet_has_every_modality_of_a_folder(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder")
    write(
        folder, {"kind00/0.txt": sentence(1), "kind01/1.json": drawing(1), "kind02/0.gif": clip(1)}
    )
    options = {"name": "folder", "path": str(folder), "split_seed": OTHER_SEED}

    registry.draw_sheet(options, tmp_path / "data", tmp_path / "all.png")
    alone = options | {"columns": {}, "modalities": ["image"]}
    registry.draw_sheet(alone, tmp_path / "data", tmp_path / "image.png")

    with Image.open(tmp_path / "all.png") as sheet, Image.open(tmp_path / "image.png") as other:
        assert sheet.size == other.size  # a sheet shows every modality, chosen or not
        assert sheet.width > 600 and sheet.height > 300


def test_missing_modalities_are_counted_by_split(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder")
    options = {"name": "folder", "path": str(folder), "split_seed": OTHER_SEED}

    summary = registry.open_data(options, tmp_path / "data").summarise()

    for split in summary.splits.values():
        assert split.present == {"audio": 2 * split.classes}
        assert set(split.class_items.values()) == {3}
        assert split.items == 3 * split.classes
