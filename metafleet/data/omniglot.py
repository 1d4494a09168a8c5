"""Omniglot: 1,623 handwritten characters of 50 alphabets, drawn by 20 people each.

Source: Lake, Salakhutdinov, Tenenbaum 2015, doi:10.1126/science.aab3050. Read where the user has
it (option ``root``), or downloaded, pinned, to ``<data_dir>/omniglot``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from metafleet.data.class_data import ClassData
from metafleet.data.download import download
from metafleet.data.omniglot_classes import CHARACTERS, N_DRAWERS, alphabet_of, split_characters
from metafleet.data.omniglot_files import IMAGE_FILES, STROKE_FILES
from metafleet.data.omniglot_readers import Drawings, Source, find_source
from metafleet.data.prepared import (
    Array,
    ClassInfo,
    PreparedData,
    find_prepared,
    folder_of,
    hash_array,
)
from metafleet.data.preparing import Content, find_or_prepare
from metafleet.data.strokes import rotate
from metafleet.data.summary import DataSummary, Progress, no_progress
from metafleet.errors import DataCorruptError, DataMissingError
from metafleet.options import require
from metafleet.sampling import ClassEpisodeSource
from metafleet.seeds import MAX_SEED

_RECIPE_VERSION = 1
_TURNS = (0, 1, 2, 3)
_OFFICIAL_PIXELS = "9fd6c26cff2b54dbb707bc4c68e66cb020b41577e48f1446f1155901d1573143"


@dataclass(frozen=True, slots=True)
class OmniglotOptions:
    """Options of ``Omniglot``.

    Attributes:
        modalities: "image" [1, 28, 28] in [0, 1] with ink 1, "stroke" [64, 3], or both. Strokes of
            the npz are partly recovered from the images; 2,855 drawings have none: all zeros.
        split: "vinyals", "lake", "maml_random" or "small"; see ``omniglot_classes``.
        split_seed: seed of "maml_random", >= 0; the others do not depend on it.
        rotations: make a class of each character turned by 0, 90, 180 and 270 degrees, in the
            split of the character.
        root: where Omniglot is on the machine that begins a run: a folder with images_background
            and images_evaluation (folders or zips), torchvision's root, or the prepared npz; "":
            what was downloaded.
    """

    modalities: tuple[Literal["image", "stroke"], ...] = ("image",)
    split: Literal["vinyals", "lake", "maml_random", "small"] = "vinyals"
    split_seed: int = 0
    rotations: bool = False
    root: str = ""

    def __post_init__(self) -> None:
        is_sound = len(self.modalities) > 0 and len(set(self.modalities)) == len(self.modalities)
        expected = "one or more different modalities"
        require(is_sound, "modalities", list(self.modalities), expected)
        seeds = "0 to 2**64 - 1"
        require(0 <= self.split_seed <= MAX_SEED, "split_seed", self.split_seed, seeds)

    @property
    def needs_strokes(self) -> bool:
        """True when the strokes are asked for."""
        return "stroke" in self.modalities


class Omniglot:
    """The data set."""

    name = "omniglot"
    title = "1,623 handwritten characters of 50 alphabets, as images and as pen strokes"
    licence = "MIT, Copyright (c) 2015 Brenden Lake"
    origin = "https://github.com/brendenlake/omniglot (downloaded by `metafleet data prepare`)"
    Options = OmniglotOptions

    def check_origin(self, options: OmniglotOptions) -> None:
        """Make sure that ``root``, if it is given, holds Omniglot."""
        if options.root:
            _, lacks = _look_at(Path(options.root).expanduser(), options)
            if lacks:
                raise _unusable(options.root, lacks)

    def is_ready(self, options: OmniglotOptions, data_dir: Path) -> bool:
        """Tell whether the data are prepared or can be prepared without a download."""
        try:
            self._locate(options, data_dir)
        except DataMissingError:
            return False
        return True

    def prepare(
        self, options: OmniglotOptions, data_dir: Path, progress: Progress | None = None
    ) -> PreparedData:
        """Download unless ``root`` is given or the data are there, check, read and store."""
        progress = progress or no_progress
        self.check_origin(options)
        if not options.root and not self.is_ready(options, data_dir):
            wanted = IMAGE_FILES + (STROKE_FILES if options.needs_strokes else ())
            for remote in wanted:
                download(remote, data_dir / self.name, progress=progress)
        return self._open(options, data_dir, progress)

    def open_classes(
        self, options: OmniglotOptions, data_dir: Path, progress: Progress | None = None
    ) -> ClassData:
        """Open the drawings, preparing them first if they only need to be read."""
        prepared = self._open(options, data_dir, progress or no_progress)
        return ClassData(self.name, prepared, _splits(options), options.modalities)

    def open_source(self, options: OmniglotOptions, data_dir: Path) -> ClassEpisodeSource:
        """Open the drawings for sampling."""
        return self.open_classes(options, data_dir).open_source()

    def digest(self, options: OmniglotOptions, data_dir: Path) -> str:
        """Return the sha256 of the chosen modalities and the split."""
        return self.open_classes(options, data_dir).digest()

    def summarise(self, options: OmniglotOptions, data_dir: Path) -> DataSummary:
        """Count classes and drawings."""
        data = self.open_classes(options, data_dir)
        return data.summarise(licence=self.licence, origin=self.origin)

    def _open(self, options: OmniglotOptions, data_dir: Path, progress: Progress) -> PreparedData:
        place = self._locate(options, data_dir)
        if isinstance(place, PreparedData):
            return place
        source = place
        recipe = {
            "recipe": _RECIPE_VERSION,
            "rotations": options.rotations,
            "strokes": options.needs_strokes,
            "source": source.fingerprint,
        }
        folder = folder_of(data_dir, self.name, recipe)

        def make() -> Content:
            drawings = source.read(options.needs_strokes, progress)
            return _content(drawings, source.kind, rotations=options.rotations)

        return find_or_prepare(folder, make)

    def _locate(self, options: OmniglotOptions, data_dir: Path) -> Source | PreparedData:
        """Find the original, else data prepared from an original that is no longer here.

        Raises:
            DataMissingError: neither is here; the message says how to get them.
        """
        root = Path(options.root).expanduser() if options.root else data_dir / self.name
        source, lacks = _look_at(root, options)
        if source is not None and not lacks:
            return source
        prepared = _find_any(options, data_dir)
        if prepared is not None:
            return prepared
        if options.root:
            raise _unusable(options.root, lacks)
        also = ' --set \'modalities=["image", "stroke"]\'' if options.needs_strokes else ""
        raise DataMissingError(
            f"data set 'omniglot' is not in {data_dir} ({lacks}); run `metafleet data prepare "
            f"omniglot{also}` to download it, or set data.root to where you have it"
        )


def _look_at(root: Path, options: OmniglotOptions) -> tuple[Source | None, str]:
    """Look for the original at ``root``; the text says what it lacks for these options."""
    if not root.exists():
        return None, "it is not there"
    source = find_source(root)
    if source is None:
        return None, "it holds no Omniglot"
    return source, "it has no strokes" if options.needs_strokes and not source.has_strokes else ""


def _unusable(root: str, lacks: str) -> DataMissingError:
    return DataMissingError(
        f"cannot read omniglot from root={root!r}: {lacks}; expected images_background and "
        "images_evaluation, or omniglot_28x28_strokes64.npz"
    )


def _find_any(options: OmniglotOptions, data_dir: Path) -> PreparedData | None:
    """Find data that fit the options, from whatever original; workers need not have it."""
    for folder in sorted((data_dir / "prepared").glob(f"{Omniglot.name}-*")):
        try:
            prepared = find_prepared(folder)
        except DataCorruptError:
            continue
        if prepared is None or prepared.facts.get("rotations") != str(options.rotations):
            continue
        if set(options.modalities) <= set(prepared.arrays):
            return prepared
    return None


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
    """Repeat each character's rows once for each number of quarter turns."""
    if len(turns) == 1:
        return array
    per_character = (len(CHARACTERS), N_DRAWERS, *array.shape[1:])
    stack = np.stack([turn(array, k).reshape(per_character) for k in turns], axis=1)
    return stack.reshape(-1, *array.shape[1:])


def _turn_images(images: Array, quarter_turns: int) -> Array:
    return np.rot90(images, quarter_turns, axes=(1, 2))


def _turned_names(name: str, *, rotations: bool) -> list[str]:
    return [name, *(f"{name}@{90 * k}" for k in _TURNS[1:])] if rotations else [name]


def _splits(options: OmniglotOptions) -> dict[str, list[str]]:
    characters = split_characters(options.split, options.split_seed)
    return {
        split: [turned for n in names for turned in _turned_names(n, rotations=options.rotations)]
        for split, names in characters.items()
    }
