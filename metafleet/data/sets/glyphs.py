"""Glyphs: characters as classes, font faces as drawers, scripts as splits. No download is needed.

A class is a character of which matplotlib's text faces have at least ``min_faces`` different
drawings. The items of the class are these drawings, each as a raster and as an outline.
Meta-training has Latin, Cyrillic and common signs. Meta-validation has Greek. Meta-testing has
Armenian, Georgian and Lao. The shapes of test classes do not occur in training (see
``glyph_classes``). The bits of the arrays depend on the versions of the fonts and of FreeType.
These versions are therefore part of the cache key, and the data digest covers the arrays
themselves.
"""

import importlib.metadata
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metafleet.data.base import ItemDataSet
from metafleet.data.decoding.ink import encode_ink, ink_options, ink_recipe
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import Array, ClassInfo, PreparedData, folder_of
from metafleet.data.prepared.preparing import Content, find_or_decode, find_sound
from metafleet.data.sets import glyph_classes
from metafleet.data.sets.glyph_faces import FACES, SIDE, Face, font_folder
from metafleet.data.strokes import N_POINTS
from metafleet.data.summary import Progress, no_progress
from metafleet.encoders.choice import NO_ENCODER, EncoderChoice
from metafleet.episode import SPLITS
from metafleet.errors import DataMissingError
from metafleet.options import require

_RECIPE_VERSION = 1


@dataclass(frozen=True, slots=True)
class GlyphsOptions:
    """Options of ``Glyphs``.

    Attributes:
        modalities: "image" [1, 28, 28] in [0, 1] with ink 1, "stroke" [64, 3], or both.
        min_faces: number of different drawings that a character needs to be a class, 2 to 16.
        image: the pretrained encoder of the images.
    """

    modalities: tuple[Literal["image", "stroke"], ...] = ("image",)
    min_faces: int = 8
    image: EncoderChoice = NO_ENCODER

    def __post_init__(self) -> None:
        is_sound = len(self.modalities) > 0 and len(set(self.modalities)) == len(self.modalities)
        expected = "one or more different modalities"
        require(is_sound, "modalities", list(self.modalities), expected)
        _ = ink_options(self.image)  # checks the encoder
        require(2 <= self.min_faces <= 16, "min_faces", self.min_faces, "2 to 16")

    @property
    def needs_strokes(self) -> bool:
        """Whether the outlines are needed."""
        return "stroke" in self.modalities


class Glyphs(ItemDataSet):
    """The data set; its preparation takes seconds."""

    name = "glyphs"
    title = "characters of many scripts in 18 font faces, as images and as outlines"
    licence = "Bitstream Vera / DejaVu (public domain changes) and STIX font licences"
    origin = "drawn here with the fonts that matplotlib bundles"
    Options = GlyphsOptions

    def is_ready(self, options: GlyphsOptions, data_dir: Path) -> bool:
        """Return whether the fonts and the packages that read them are installed."""
        try:
            self._folder(options, data_dir)
        except DataMissingError:
            return False
        return True

    def prepare(self, options: GlyphsOptions, data_dir: Path, progress: Progress) -> PreparedData:
        """Draw everything, unless it is prepared already."""
        folder = self._folder(options, data_dir)
        return find_or_decode(folder, lambda scratch: _draw_all(options, scratch, progress))

    def find_prepared(self, options: GlyphsOptions, data_dir: Path) -> PreparedData | None:
        """Return the glyphs that were drawn before with the installed fonts and packages."""
        try:
            return find_sound(self._folder(options, data_dir))
        except DataMissingError:
            return None

    def open_classes(self, options: GlyphsOptions, data_dir: Path) -> ClassData:
        """Open the glyphs; draw them first if necessary."""
        prepared = self.prepare(options, data_dir, no_progress)
        return ClassData(self.name, prepared, _splits(prepared), options.modalities)

    def _folder(self, options: GlyphsOptions, data_dir: Path) -> Path:
        recipe = {
            "recipe": _RECIPE_VERSION,
            "min_faces": options.min_faces,
            "strokes": options.needs_strokes,
            **_versions(),
            **ink_recipe(options.image),
        }
        return folder_of(data_dir, self.name, recipe)


def _splits(prepared: PreparedData) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for info in prepared.classes:
        splits[glyph_classes.SPLIT_OF_SCRIPT[info.group]].append(info.name)
    return splits


def _versions() -> dict[str, str]:
    """Return the versions of everything that can change a bit of the drawings."""
    try:
        from PIL import features  # noqa: PLC0415 - only this data set needs it here

        return {
            "matplotlib": importlib.metadata.version("matplotlib"),
            "fonttools": importlib.metadata.version("fonttools"),
            "pillow": importlib.metadata.version("pillow"),
            "freetype": str(features.version("freetype2")),
            "unicode": unicodedata.unidata_version,
        }
    except ImportError as error:  # PackageNotFoundError is one too
        raise DataMissingError(
            f"data set 'glyphs' needs matplotlib, fontTools and Pillow ({error}); "
            "run `pip install 'metafleet[data]'`"
        ) from error


def _draw_all(options: GlyphsOptions, scratch: Path, progress: Progress) -> Content:
    folder = font_folder()
    faces = [Face(folder / f"{name}.ttf") for name in FACES]
    codes = glyph_classes.candidates([face.codes for face in faces], min_faces=options.min_faces)
    images = np.zeros((len(codes), len(faces), SIDE, SIDE), np.uint8)
    drawn = np.zeros((len(codes), len(faces)), np.bool_)
    for column, face in enumerate(faces):
        progress("drawing rasters", column, len(faces))
        has = [row for row, code in enumerate(codes) if face.draws(code)]
        images[has, column] = face.rasters([codes[row] for row in has])
        drawn[has, column] = True
    distinct = glyph_classes.distinct_drawings(images, drawn)
    progress("comparing shapes", 0, 0)
    enough = np.flatnonzero(distinct.sum(axis=1) >= options.min_faces)
    chosen = glyph_classes.without_look_alikes(
        [codes[row] for row in enough], images[enough], drawn[enough]
    )
    kept = enough[chosen]
    rows, columns = np.nonzero(distinct[kept])  # sorted by character, then by face
    shown = encode_ink(images[kept][rows, columns], options.image, scratch, progress)
    arrays: dict[str, Array] = dict(shown.arrays)
    if options.needs_strokes:
        drawings = [(faces[c], codes[kept[r]]) for r, c in zip(rows, columns, strict=True)]
        arrays["stroke"] = _trace(drawings, progress)
    return Content(
        classes=[_class_info(codes[row], distinct[row]) for row in kept],
        arrays=arrays,
        encoders=shown.encoders,
        views=shown.views,
        recipe=ink_recipe(options.image),
        present={},
        facts={
            **_versions(),
            "characters drawn by enough faces": str(len(codes)),
            "left out: too few different drawings": str(len(codes) - len(enough)),
            "left out: look like another character": str(len(enough) - len(kept)),
        },
    )


def _trace(drawings: Sequence[tuple[Face, int]], progress: Progress) -> Array:
    outlines = np.zeros((len(drawings), N_POINTS, 3), np.float16)
    for item, (face, code) in enumerate(drawings):
        if item % 1000 == 0:
            progress("tracing outlines", item, len(drawings))
        outlines[item] = face.outline(code)
    progress("tracing outlines", len(drawings), len(drawings))
    return outlines


def _class_info(code: int, marks: Any) -> ClassInfo:
    return ClassInfo(
        glyph_classes.class_name(code), glyph_classes.script_of(code), int(marks.sum())
    )
