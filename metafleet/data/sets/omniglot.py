"""Omniglot: 1,623 handwritten characters of 50 alphabets, drawn by 20 people each.

Source: Lake, Salakhutdinov, Tenenbaum 2015, doi:10.1126/science.aab3050. Omniglot is read from the
user's path (option ``root``). Without this option, it is read from ``<data_dir>/omniglot``, into
which a pinned version is downloaded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metafleet.data.decoding.ink import encode_ink, ink_options, ink_recipe
from metafleet.data.prepared.class_data import Splits
from metafleet.data.prepared.download import RemoteFile, download
from metafleet.data.prepared.prepared import Array, ClassInfo, PreparedData, hash_array
from metafleet.data.prepared.preparing import Content
from metafleet.data.sets.omniglot_classes import (
    CHARACTERS,
    N_DRAWERS,
    alphabet_of,
    split_characters,
)
from metafleet.data.sets.omniglot_readers import Drawings, OmniglotSource, find_source
from metafleet.data.stored import Original, StoredDataSet
from metafleet.data.strokes import rotate
from metafleet.data.summary import Progress
from metafleet.encoders.choice import NO_ENCODER, EncoderChoice
from metafleet.options import require
from metafleet.seeds import MAX_SEED

_BASE_URL = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/"
    "057f034baf2ecb8530bc5710e5a23584d2a519cc/python/"
)
IMAGE_FILES = (
    RemoteFile(
        name="images_background.zip",
        url=_BASE_URL + "images_background.zip",
        n_bytes=9_464_212,
        sha256="ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    ),
    RemoteFile(
        name="images_evaluation.zip",
        url=_BASE_URL + "images_evaluation.zip",
        n_bytes=6_462_886,
        sha256="1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    ),
)
STROKE_FILES = (
    RemoteFile(
        name="strokes_background.zip",
        url=_BASE_URL + "strokes_background.zip",
        n_bytes=25_653_493,
        sha256="c1e445d158fd74b6adf81f1387ebe051f5a23923bdb0c16f539d6e707ce056d4",
    ),
    RemoteFile(
        name="strokes_evaluation.zip",
        url=_BASE_URL + "strokes_evaluation.zip",
        n_bytes=19_185_747,
        sha256="17185a39049e62d6e6a26070fa5c58e5ce7dbaff826a9f78595bdd7881d2070b",
    ),
)


_RECIPE_VERSION = 1
_TURNS = (0, 1, 2, 3)
_OFFICIAL_PIXELS = "9fd6c26cff2b54dbb707bc4c68e66cb020b41577e48f1446f1155901d1573143"


@dataclass(frozen=True, slots=True)
class OmniglotOptions:
    """Options of ``Omniglot``.

    Attributes:
        modalities: "image" [1, 28, 28] in [0, 1] with ink 1, "stroke" [64, 3], or both. In the npz,
            the strokes of some drawings are recovered from the images, and 2,855 drawings have no
            strokes.
        split: "vinyals", "lake", "maml_random" or "small"; see
            ``metafleet/data/sets/omniglot_classes.py``.
        split_seed: seed of "maml_random", >= 0. The other splits do not depend on it.
        rotations: whether to add three classes for each character, in the character's split: its
            drawings rotated by 90, by 180 and by 270 degrees.
        image: the pretrained encoder of the images.
        root: path on the machine that starts a run: the path of a folder with images_background and
            images_evaluation (folders or zips), of torchvision's root, or of the prepared npz. ""
            selects the downloaded files.
    """

    modalities: tuple[Literal["image", "stroke"], ...] = ("image",)
    split: Literal["vinyals", "lake", "maml_random", "small"] = "vinyals"
    split_seed: int = 0
    rotations: bool = False
    image: EncoderChoice = NO_ENCODER
    root: str = ""

    def __post_init__(self) -> None:
        is_sound = len(self.modalities) > 0 and len(set(self.modalities)) == len(self.modalities)
        expected = "one or more different modalities"
        require(is_sound, "modalities", list(self.modalities), expected)
        _ = ink_options(self.image)  # checks the encoder
        seeds = "0 to 2**64 - 1"
        require(0 <= self.split_seed <= MAX_SEED, "split_seed", self.split_seed, seeds)

    @property
    def needs_strokes(self) -> bool:
        """Whether the strokes are needed."""
        return "stroke" in self.modalities


class Omniglot(StoredDataSet[OmniglotOptions]):
    """The data set."""

    name = "omniglot"
    title = "1,623 handwritten characters of 50 alphabets, as images and as pen strokes"
    licence = "MIT, Copyright (c) 2015 Brenden Lake"
    origin = "https://github.com/brendenlake/omniglot (downloaded by `metafleet data prepare`)"
    Options = OmniglotOptions
    expected = "images_background and images_evaluation, or omniglot_28x28_strokes64.npz"
    how_to_get = (
        "run `metafleet data prepare omniglot` to download it, for strokes with "
        '--set \'modalities=["image", "stroke"]\', or set data.root to where you have it'
    )

    def recipe(self, options: OmniglotOptions) -> Mapping[str, Any]:
        """Return which data of each drawing are stored, and whether drawings are rotated."""
        return {
            "recipe": _RECIPE_VERSION,
            "rotations": options.rotations,
            "strokes": options.needs_strokes,
            **ink_recipe(options.image),
        }

    def find_original(self, root: Path, options: OmniglotOptions) -> Original | str:
        """Find the drawings, in any of the formats of ``omniglot_readers``."""
        source = find_source(root)
        if source is None:
            return "it holds no Omniglot"
        if options.needs_strokes and not source.has_strokes:
            return "it has no strokes"
        return Original(source.fingerprint, partial(_read, source, options))

    def splits(self, options: OmniglotOptions, prepared: PreparedData) -> Splits:
        """Return split -> its characters, each in all its rotations."""
        characters = split_characters(options.split, options.split_seed)
        turned = partial(_turned_names, rotations=options.rotations)
        return {
            split: [name for character in names for name in turned(character)]
            for split, names in characters.items()
        }

    def download(self, options: OmniglotOptions, folder: Path, progress: Progress) -> None:
        """Download the official zips at a pinned commit."""
        for remote in IMAGE_FILES + (STROKE_FILES if options.needs_strokes else ()):
            download(remote, folder, progress=progress)


def _read(
    source: OmniglotSource, options: OmniglotOptions, scratch: Path, progress: Progress
) -> Content:
    drawings = source.read(options.needs_strokes, progress)
    content = _content(drawings, source.kind, rotations=options.rotations)
    found = encode_ink(content.arrays["image"], options.image, scratch, progress)
    arrays = {**content.arrays, **found.arrays}
    return replace(content, arrays=arrays, encoders=found.encoders, views=found.views)


def _content(drawings: Drawings, kind: str, *, rotations: bool) -> Content:
    turns = _TURNS if rotations else (0,)
    images = drawings.images
    is_official = hash_array(images) == _OFFICIAL_PIXELS
    arrays: dict[str, Array] = {"image": _turned(images, turns, _turn_images)}
    present = {}
    if drawings.strokes is not None:
        arrays["stroke"] = _turned(drawings.strokes, turns, rotate)
        present["stroke"] = int(drawings.strokes[..., 2].any(axis=1).sum()) * len(turns)
    return Content(
        classes=[
            ClassInfo(turned, alphabet_of(name), N_DRAWERS)
            for name in CHARACTERS
            for turned in _turned_names(name, rotations=rotations)
        ],
        arrays=arrays,
        present=present,
        facts={
            "rotations": str(rotations),
            "read from": kind,
            "pixels are the official ones": "yes" if is_official else "no",
        },
    )


def _turned(array: Array, turns: Sequence[int], turn: Callable[[Array, int], Array]) -> Array:
    """Repeat the rows of each character, rotated by each number of quarter turns."""
    if len(turns) == 1:
        return array
    per_character = (len(CHARACTERS), N_DRAWERS, *array.shape[1:])
    stack = np.stack([turn(array, k).reshape(per_character) for k in turns], axis=1)
    return stack.reshape(-1, *array.shape[1:])


def _turn_images(images: Array, quarter_turns: int) -> Array:
    return np.rot90(images, quarter_turns, axes=(1, 2))


def _turned_names(name: str, *, rotations: bool) -> list[str]:
    return [name, *(f"{name}@{90 * k}" for k in _TURNS[1:])] if rotations else [name]
