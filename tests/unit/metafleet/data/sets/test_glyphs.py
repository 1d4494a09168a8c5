from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from metafleet.data.registry import DATASETS, open_data, open_source
from metafleet.data.sets import glyph_classes
from metafleet.data.sets.glyph_faces import FACES, Face, font_folder
from metafleet.data.strokes import has_strokes
from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

BOTH = {"name": "glyphs", "modalities": ["image", "stroke"]}
CODES = [ord(c) for c in "AgQ8%&жЩΩ֏@"]


@pytest.fixture(scope="module")
def face() -> Face:
    return Face(font_folder() / f"{FACES[8]}.ttf")


def fill(strokes: np.ndarray, side: int) -> np.ndarray:
    """Fill closed contours [64, 3] by the even-odd rule."""
    ink = np.zeros((side, side), bool)
    start = 0
    for end in np.flatnonzero(strokes[:, 2]) + 1:
        mask = Image.new("1", (side, side))
        points = [(float(x) * side, float(y) * side) for x, y in strokes[start:end, :2]]
        ImageDraw.Draw(mask).polygon(points, fill=1)
        ink ^= np.asarray(mask)
        start = end
    return ink


def test_the_outline_lies_on_the_raster(face):
    codes = [code for code in CODES if face.draws(code)]
    rasters = face.rasters(codes)

    for code, raster in zip(codes, rasters, strict=True):
        big = fill(face.outline(code), 28 * 8).reshape(28, 8, 28, 8).mean(axis=(1, 3))
        drawn = raster / 255
        assert np.abs(big - drawn).sum() < 0.25 * drawn.sum(), chr(code)
        assert np.corrcoef(big.ravel(), drawn.ravel())[0, 1] > 0.93, chr(code)


def test_drawings_stay_within_the_margin_and_in_the_unit_square(face):
    for code in CODES:
        if face.draws(code):
            raster, outline = face.rasters([code])[0], face.outline(code)
            frame = np.concatenate([raster[0], raster[-1], raster[:, 0], raster[:, -1]])
            assert raster.max() > 100 and frame.max() <= 64  # hinting may move half a pixel
            assert outline[:, :2].min() >= 0.0 and outline[:, :2].max() <= 1.0
            assert outline[-1, 2] == 1 and np.isfinite(outline).all()


def test_contours_are_closed(face):
    outline = face.outline(ord("B"))
    ends = np.flatnonzero(outline[:, 2])

    assert len(ends) == 3  # the body and its two holes
    for first, last in zip([0, *(ends[:-1] + 1)], ends, strict=True):
        np.testing.assert_allclose(outline[first, :2], outline[last, :2], atol=1e-6)


def test_a_missing_character_is_not_drawn(face):
    assert not face.draws(0x4E00)
    assert not face.draws(0x20)
    assert face.draws(0x41)


def test_look_alikes_of_another_script_are_left_out(few_glyphs, tmp_path):
    prepared = open_data(BOTH, tmp_path).prepare()

    names = {info.name for info in prepared.classes}
    groups = {info.group for info in prepared.classes}
    assert groups == {"Latin", "Cyrillic", "Greek", "Armenian"}
    assert "U+0041 LATIN CAPITAL LETTER A" in names
    assert "U+0391 GREEK CAPITAL LETTER ALPHA" not in names
    assert "U+0410 CYRILLIC CAPITAL LETTER A" not in names
    assert "U+03A0 GREEK CAPITAL LETTER PI" not in names  # Cyrillic Pe is in training
    assert "U+0398 GREEK CAPITAL LETTER THETA" in names
    assert "U+0531 ARMENIAN CAPITAL LETTER AYB" in names


def test_scripts_are_split_so_that_testing_has_none_seen_before(few_glyphs, tmp_path):
    dataset = DATASETS["glyphs"]
    data = dataset.open_classes(open_data({"name": "glyphs"}, Path()).options, tmp_path)

    scripts = {split: {name.split()[1] for name in names} for split, names in data.splits.items()}
    assert scripts == {
        "meta_train": {"LATIN", "CYRILLIC"},
        "meta_val": {"GREEK"},
        "meta_test": {"ARMENIAN"},
    }
    listed = [name for names in data.splits.values() for name in names]
    assert sorted(listed) == sorted(info.name for info in data.prepared.classes)
    assert len(set(listed)) == len(listed)


def test_drawings_of_a_class_differ_and_are_enough(few_glyphs, tmp_path):
    prepared = open_data({"name": "glyphs", "min_faces": 8}, tmp_path).prepare()
    images = prepared.load("image")

    start = 0
    for info in prepared.classes:
        rows = images[start : start + info.n_items]
        start += info.n_items
        assert info.n_items >= 8
        assert len({row.tobytes() for row in rows}) == info.n_items
        assert rows.any(axis=(1, 2)).all()
    assert start == len(images)


def test_drawing_twice_gives_the_same_bits(few_glyphs, tmp_path):
    one, two = (
        open_data(BOTH, tmp_path / "one").prepare(),
        open_data(BOTH, tmp_path / "two").prepare(),
    )

    assert one.arrays == two.arrays and one.classes == two.classes
    assert open_data(BOTH, tmp_path / "one").digest() == open_data(BOTH, tmp_path / "two").digest()


def test_the_digest_covers_the_chosen_modalities_only(few_glyphs, tmp_path):
    image_only = open_data({"name": "glyphs"}, tmp_path).digest()

    assert image_only == open_data({"name": "glyphs", "modalities": ["image"]}, tmp_path).digest()
    assert image_only != open_data(BOTH, tmp_path).digest()
    assert list(open_data({"name": "glyphs"}, tmp_path).prepare().arrays) == ["image"]


def test_an_opened_source_samples_float_images_and_outlines(few_glyphs, tmp_path):
    source = open_source(BOTH, tmp_path)
    shape = EpisodeShape(5, 1, 4)
    source.check("meta_test", shape)

    episode = source.sample("meta_test", shape, CounterRng(1, "meta_test"))

    image, stroke = episode.query.inputs["image"], episode.query.inputs["stroke"]
    assert source.modalities == {"image": (1, 28, 28), "stroke": (64, 3)}
    assert image.shape == (20, 1, 28, 28) and image.dtype == torch.float32
    assert image.min() == 0 and 0.5 < image.max() <= 1
    assert stroke.shape == (20, 64, 3) and stroke.dtype == torch.float32
    assert stroke.isfinite().all() and has_strokes(stroke).all()


def test_modalities_come_in_the_order_asked_for(few_glyphs, tmp_path):
    source = open_source({"name": "glyphs", "modalities": ["stroke", "image"]}, tmp_path)

    assert list(source.modalities) == ["stroke", "image"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": []}, "one or more different modalities"),
        ({"modalities": ["image", "image"]}, "one or more different modalities"),
        ({"modalities": ["sound"]}, "modalities='sound'; expected one of 'image', 'stroke'"),
        ({"modalities": "image"}, "modalities='image'; expected a list"),
        ({"min_faces": 1}, "min_faces=1; expected 2 to 16"),
        ({"min_faces": 8.0}, "min_faces=8.0; expected a whole number"),
        ({"min_face": 8}, "no option 'min_face'; its options are: image, min_faces, modalities"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        open_data({"name": "glyphs", **options}, Path())


def test_unknown_data_sets_are_refused():
    with pytest.raises(
        ConfigError, match=r"no data set 'glyph'; expected one of: .*glyphs, .*omniglot"
    ):
        open_data({"name": "glyph"}, Path())
    with pytest.raises(ConfigError, match="has no name"):
        open_data({}, Path())
    with pytest.raises(ConfigError, match=r"no data set \['glyphs'\]"):
        open_data({"name": ["glyphs"]}, Path())


def test_candidates_are_drawable_and_frequent_enough():
    faces = [[0x41, 0x42, 0x20, 0xE000], [0x41, 0x20, 0xE000], [0x41, 0x42, 0x20, 0xE000]]

    assert glyph_classes.candidates(faces, min_faces=3) == [0x41]
    assert glyph_classes.candidates(faces, min_faces=2) == [0x41, 0x42]


@pytest.mark.parametrize(
    ("character", "script"),
    [("a", "Latin"), ("Ж", "Cyrillic"), ("Ω", "Greek"), ("\u0584", "Armenian"), ("ლ", "Georgian"),
     ("ກ", "Lao"), ("+", "Common"), ("7", "Common"), ("\u02c8", "Common")],
)  # fmt: skip
def test_scripts_come_from_unicode_names(character, script):
    assert glyph_classes.script_of(ord(character)) == script
