"""Pictures of more than 8 bits: their range, and what is said where levels are lost."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metafleet.data.decoding.image import ImageOptions
from metafleet.data.decoding.registry import DECODERS
from metafleet.data.importing.importer import bring_in, find_kept, import_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.summary import no_progress
from metafleet.errors import ConfigError, DecodeError
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.items import ReadOptions, open_items
from metafleet.inference.requirements import Needs
from metafleet.inference.run_inputs import input_specs
from tests.folders import CLASSES, write
from tests.unit.metafleet.data.decoding.samples import picture, png
from tests.unit.metafleet.data.importing.conftest import Check

SIDE = 16
RNG = np.random.default_rng(3)


def counts(most: int = 4095) -> np.ndarray:
    """Counts of a camera, in 16 bits: 0 and ``most`` are among them."""
    values = RNG.integers(0, most + 1, (SIDE, SIDE), np.uint16)
    values[0, 0], values[0, 1] = 0, most
    return values


def folder_of(path: Path, pixels: list[np.ndarray], suffix: str = "png") -> Path:
    """Write two pictures a class, in turn."""
    kinds = {"png": "PNG", "tif": "TIFF"}
    pictures = [picture(Image.fromarray(each), kinds[suffix]) for each in pixels]
    names = [f"{label}/{n}.{suffix}" for label in CLASSES for n in range(2)]
    return write(
        path, {name: pictures[n % len(pictures)] + bytes(n) for n, name in enumerate(names)}
    )


def decoded(source: bytes, **options: object) -> np.ndarray:
    chosen = ImageOptions(side=SIDE, channels=1, **options)  # type: ignore[arg-type]
    return DECODERS["image"].decode(source, chosen)[0]


def prepared(folder: Path, data_dir: Path, chosen: object) -> PreparedData:
    image = {"side": SIDE, "channels": 1, "range": chosen}
    options = FolderOptions(path=str(folder), decoders={"image": image})
    report = bring_in(options, data_dir, no_progress)
    assert report.prepared is not None, report.problems
    assert find_kept(options, data_dir) == report.prepared
    return report.prepared


def test_a_range_decides_what_is_black_and_white() -> None:
    values = counts()
    source = png(values)
    wide = values.astype(np.int64)

    np.testing.assert_array_equal(decoded(source), wide // 257)
    np.testing.assert_array_equal(decoded(source, range=(0.0, 4095.0)), wide * 255 // 4095)
    np.testing.assert_array_equal(decoded(source, range="file"), decoded(source, range=(0, 4095)))
    cut = decoded(source, range=(1000.0, 2000.0))
    np.testing.assert_array_equal(cut, (wide.clip(1000, 2000) - 1000) * 255 // 1000)
    assert len(np.unique(decoded(source))) <= 16 < len(np.unique(decoded(source, range="file")))


def test_a_range_leaves_8_bits_as_they_are() -> None:
    values = RNG.integers(40, 60, (SIDE, SIDE), np.uint8)

    for chosen in ("dtype", "file", "data", (0.0, 4095.0)):
        np.testing.assert_array_equal(decoded(png(values), range=chosen), values)


def test_a_flat_picture_has_no_range_and_is_black() -> None:
    assert not decoded(png(np.full((SIDE, SIDE), 7, np.uint16)), range="file").any()


def test_float_pictures_are_read_by_a_range_and_by_none_refused() -> None:
    values = RNG.random((SIDE, SIDE)).astype(np.float32)
    source = picture(Image.fromarray(values), "TIFF")

    row = decoded(source, range=(0.0, 1.0))

    np.testing.assert_allclose(row / 255, values, atol=1 / 255)
    with pytest.raises(DecodeError, match="float pixels"):
        decoded(source)
    values[2, 2] = np.nan
    with pytest.raises(DecodeError, match="not finite"):
        decoded(picture(Image.fromarray(values), "TIFF"), range=(0.0, 1.0))


@pytest.mark.parametrize("chosen", [(1.0,), (5.0, 5.0), (2.0, 1.0), (0.0, float("inf"))])
def test_an_invalid_range_is_named(chosen: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="range="):
        ImageOptions(range=chosen)


@pytest.mark.parametrize("wrong", ["all", 7, [1, "x"], None])
def test_a_range_of_another_type_is_named(wrong: object, check: Check, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="range="):
        check(folder_of(tmp_path, [counts()]), decoders={"image": {"range": wrong}})


def test_the_range_of_all_pictures_is_measured_and_kept_for_what_a_model_is_asked(
    tmp_path: Path,
) -> None:
    dark, bright = counts(1000), counts(3000)
    folder = folder_of(tmp_path / "f", [dark, bright])
    data_dir = tmp_path / "data"

    found = prepared(folder, data_dir, "data")

    np.testing.assert_array_equal(found.load("image")[0, 0], dark.astype(int) * 255 // 3000)
    (spec,) = input_specs({"name": "folder", **_asked(folder, "data")}, data_dir).values()
    spec = InputSpec.from_json("image", json.loads(json.dumps(spec.to_json())))
    assert spec.decoder_options().range == (0.0, 3000.0)
    alone = write(tmp_path / "alone", {"x.png": png(dark)})
    with open_items(
        alone, {"image": spec}, Needs(("image",)), ReadOptions(), is_labelled=False
    ) as items:
        (pixels,) = items.inputs([0])["image"].numpy()
    np.testing.assert_allclose(pixels[0], found.load("image")[0, 0] / 255, atol=1e-6)


def _asked(folder: Path, chosen: object) -> dict[str, object]:
    return {"path": str(folder), "image": {"side": SIDE, "channels": 1, "range": chosen}}


def test_each_range_is_prepared_apart(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", [counts()])

    ranges = ["dtype", "file", "data", [0, 4095], [0, 2000]]
    paths = {prepared(folder, tmp_path / "data", chosen).path for chosen in ranges}

    assert len(paths) == 5


def test_few_levels_are_reported_once_with_a_count(tmp_path: Path) -> None:
    few = np.minimum(RNG.integers(0, 150, (SIDE, SIDE)), 300).astype(np.uint16)
    folder = folder_of(tmp_path / "f", [few])
    options = FolderOptions(path=str(folder), decoders={"image": {"channels": 1}})

    report = import_folder(options, tmp_path / "data", name="counts")

    (note,) = [note for note in report.notes if "grey levels" in note]
    levels = len(np.unique(few))
    assert note.startswith(f"24 of 'image' keep few of their grey levels, such as 1 of {levels} in")
    assert "image.range" in note
    assert report.prepared is not None and note in report.prepared.facts.values()


def test_levels_that_are_kept_or_were_few_before_are_not_reported(
    tmp_path: Path, check: Check
) -> None:
    full = folder_of(tmp_path / "full", [counts(65535)])
    mask = folder_of(tmp_path / "mask", [np.where(counts() > 99, 65535, 0).astype(np.uint16)])
    plain = folder_of(tmp_path / "plain", [RNG.integers(0, 9, (SIDE, SIDE), np.uint8)])
    scaled = folder_of(tmp_path / "scaled", [counts()])

    notes = [check(path).notes for path in (full, mask, plain)]
    notes.append(check(scaled, decoders={"image": {"range": "data"}}).notes)

    assert not any("levels" in note or "cut off" in note for note in sum(notes, ()))


def test_values_beyond_16_bits_that_are_cut_off_are_reported(tmp_path: Path, check: Check) -> None:
    values = counts(65535).astype(np.int32) * 3
    folder = folder_of(tmp_path / "f", [values], suffix="tif")

    (note,) = [note for note in check(folder).notes if "cut off" in note]

    assert "24 of 'image' have values beyond 0 to 65535" in note and "0 to 196605" in note


def test_hdf5_pixels_of_other_numbers_than_bytes_are_refused_not_wrapped(tmp_path: Path) -> None:
    import h5py  # noqa: PLC0415 - slow

    from metafleet.data.importing.layouts.hdf5_part import Hdf5Part  # noqa: PLC0415
    from metafleet.data.importing.part import find_file  # noqa: PLC0415

    with h5py.File(tmp_path / "a.hdf5", "w") as store:
        store["deep"] = counts(4095)[None]
        store["wide"] = np.full((1, 4, 4), 200, np.int64)
        store["unit"] = RNG.random((1, 4, 4))
    file = find_file(tmp_path, "a.hdf5")
    assert file is not None

    assert Hdf5Part(file, "wide", 0).read().endswith(bytes([200]) * 16)
    for name in ("deep", "unit"):
        with pytest.raises(DecodeError, match="expected whole numbers from 0 to 255"):
            Hdf5Part(file, name, 0).read()


def deep_colours(value: int) -> bytes:
    """A PNG of 16 bits a colour, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    lines = b"".join(b"\0" + struct.pack(">H", value) * 3 * SIDE for _ in range(SIDE))
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_half_of_16_bits_a_colour_is_lost_and_reported(tmp_path: Path, check: Check) -> None:
    files = {f"{label}/{n}.png": deep_colours(99 * n) for label in CLASSES for n in range(2)}
    folder = write(tmp_path / "f", files)

    assert any("16 bits a colour" in note for note in check(folder).notes)
    refused = check(folder, decoders={"image": {"range": "file"}}).problems
    assert "upper 8" in next(each.message for each in refused if each.kind == "bad-image")
