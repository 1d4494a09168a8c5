"""Concepts: 279 things (frog, apple, hammer) as pictures, written and spoken words, and clips.

Pictures are the emoji of four vendors, texts their names in 13 languages, sounds the word spoken in
five languages by one person each, clips the animated emoji; what does not exist stays a gap.

**What an item is.** Nothing but the concept itself ties a vendor's picture to a language's word, so
items could be single pictures and words. They are *renderings* instead: item j of a concept has its
word in the j-th of ``languages``, written and, where it was recorded, spoken; the picture by the
j-th of ``vendors``, which each concept has in an order of its own; and, for j = 0, the clip. Then

- classifying concepts by one modality asks for what its renderings share: across vendors, across
  languages, across speakers; a rendering that lacks the modality is never drawn;
- fusion sees several modalities of an item at once, with real gaps, and no two items of a class
  share a file, so that nothing leaks from support to query;
- a cross-modal episode (the word heard once, its picture to be found) takes support and query from
  different renderings and shows one modality of each; the masks say which.

The order of vendors is drawn by concept because items of support and query differ: were a language
always with one vendor, a picture's style would rule out all classes heard in its language, and
across modalities 25 % of 5-way episodes be answered without knowing any word.

With ``classes = "subgroup"``, Unicode's subgroups (animal-bird, food-fruit) are the classes and
each concept is one item: its first picture, word, text and clip that exist. Renderings of one
concept in both support and query would turn telling birds from fruit into recognising the frog.
Splits are by concept as published, and by whole subgroups, so that no class is ever shared.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from metafleet.data.decoding.audio import AudioOptions
from metafleet.data.decoding.columns import Column, DecodeProblem, decode_columns
from metafleet.data.decoding.image import ImageOptions
from metafleet.data.decoding.source import FileBytes, Source
from metafleet.data.decoding.text import TextOptions
from metafleet.data.decoding.video import VideoOptions
from metafleet.data.prepared.class_data import Splits
from metafleet.data.prepared.prepared import ClassInfo, PreparedData
from metafleet.data.prepared.preparing import Content
from metafleet.data.sets.concepts_manifest import (
    Concept,
    find_manifest,
    fingerprint,
    large_subgroups,
    read_manifest,
    split_subgroups,
)
from metafleet.data.stored import Original, StoredDataSet
from metafleet.data.summary import Progress
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from metafleet.errors import DataCorruptError
from metafleet.options import require

_RECIPE_VERSION = 2
ModalityName = Literal["image", "text", "audio", "video"]
Vendor = Literal["noto", "twemoji", "openmoji", "fluent"]
Language = Literal["en", "es", "gd", "fr", "de", "it", "pt", "ru", "ar", "hi", "zh", "ja", "sw"]
Voice = Literal["en", "es", "gd", "fr", "de"]


@dataclass(frozen=True, slots=True)
class ConceptsOptions:
    """Options of ``Concepts``.

    Attributes:
        modalities: one or more of "image" [3, side, side], "text" (bytes or features), "audio"
            (log-mel [40, 74] of the first 1.5 s) and "video" [8, 3, side, side].
        classes: "concept", with a rendering an item, or "subgroup", with a concept an item.
        vendors: whose pictures; of a subgroup's concepts the first there is.
        languages: of texts and sounds, in the order of renderings.
        voices: languages whose sounds are used; French and German ones are GPL-3.0-or-later.
        side: height and width of pictures and clips, in pixels.
        encoder: "bytes" keeps texts, "minilm" 384 frozen features of them (English).
        root: the folder with manifest.csv, on the machine that begins a run.
    """

    modalities: tuple[ModalityName, ...] = ("image",)
    classes: Literal["concept", "subgroup"] = "concept"
    vendors: tuple[Vendor, ...] = ("noto", "twemoji", "openmoji", "fluent")
    languages: tuple[Language, ...] = ("en", "es", "gd", "fr", "de")
    voices: tuple[Voice, ...] = ("en", "es", "gd", "fr", "de")
    side: int = 32
    encoder: Literal["bytes", "minilm"] = "bytes"
    root: str = ""

    def __post_init__(self) -> None:
        for option in ("modalities", "vendors", "languages"):
            chosen = getattr(self, option)
            is_sound = len(chosen) > 0 and len(set(chosen)) == len(chosen)
            require(is_sound, option, list(chosen), "one or more, each once")
        is_sound = "audio" not in self.modalities or bool(set(self.voices) & set(self.languages))
        require(is_sound, "voices", list(self.voices), "one of the languages at least, for audio")
        _ = self.decoders  # checks the ranges

    @property
    def decoders(self) -> dict[str, Any]:
        """Modality -> the options it is decoded with."""
        all_of_them: dict[str, Any] = {
            "image": ImageOptions(side=self.side),
            "text": TextOptions(encoder=self.encoder, max_bytes=112),
            "audio": AudioOptions(duration_s=1.5, hop_ms=20.0),
            "video": VideoOptions(frames=8, side=self.side),
        }
        return {name: all_of_them[name] for name in self.modalities}

    @property
    def n_renderings(self) -> int:
        """Items of a concept, before those without a chosen modality are left out."""
        return max(len(self.vendors), len(self.languages))


class Concepts(StoredDataSet[ConceptsOptions]):
    """The data set."""

    name = "concepts"
    title = "279 things as pictures, texts, spoken words and clips, with real gaps"
    licence = (
        "by column: pictures Apache-2.0 (Noto), CC BY 4.0 (Twemoji), CC BY-SA 4.0 (OpenMoji), MIT "
        "(Fluent); texts Unicode-3.0; sounds CC BY-SA (en, es), public domain (gd), "
        "GPL-3.0-or-later (fr, de: leave them out of voices where that does not suit)"
    )
    origin = (
        "emoji by Noto, Twemoji, OpenMoji and Fluent, names by Unicode CLDR, words by GCompris; "
        "put manifest.csv and its folders somewhere and set root"
    )
    Options = ConceptsOptions
    expected = "a folder with manifest.csv, images/, audio/ and video/"
    how_to_get = "set data.root to the folder that has its manifest.csv, images, audio and video"

    def recipe(self, options: ConceptsOptions) -> Mapping[str, Any]:
        """Return what is kept, and which renderings there are."""
        decoders = options.decoders
        return {
            "recipe": _RECIPE_VERSION,
            "classes": options.classes,
            "vendors": options.vendors,
            "languages": options.languages,
            "voices": options.voices,
            "columns": {
                name: Column(name, name, decoders[name], ()).recipe() for name in sorted(decoders)
            },
        }

    def find_original(self, root: Path, options: ConceptsOptions) -> Original | str:
        """Look for the manifest; the files it names are asked for when they are read."""
        manifest = find_manifest(root)
        if manifest is None:
            return "it has no manifest.csv"
        return Original(fingerprint(manifest), partial(_read, manifest, options))

    def splits(self, options: ConceptsOptions, prepared: PreparedData) -> Splits:
        """Return the splits that were decided at preparation."""
        return prepared.splits


@dataclass(frozen=True, slots=True)
class _Item:
    class_name: str
    concept: Concept
    files: Mapping[str, Source]
    """Modality -> where it is, without what is missing."""


def _read(manifest: Path, options: ConceptsOptions, scratch: Path, progress: Progress) -> Content:
    concepts = read_manifest(manifest)
    items = list(_items(concepts, manifest.parent, options))
    columns = [
        Column(name, name, decoder, [item.files.get(name) for item in items])
        for name, decoder in options.decoders.items()
    ]
    decoded = decode_columns(columns, scratch, progress=progress)
    if decoded.problems:
        raise _unreadable(manifest, items, decoded.problems)
    return Content(
        classes=_classes(items),
        arrays=decoded.arrays,
        present={},
        facts={"concepts": str(len(concepts))},
        masks=decoded.masks,
        splits=_splits(items, options),
    )


def _items(concepts: Sequence[Concept], folder: Path, options: ConceptsOptions) -> Iterator[_Item]:
    """Yield the items by class."""
    if options.classes == "concept":
        for concept in concepts:
            own = replace(options, vendors=order_of_vendors(concept, options.vendors))
            for number in range(options.n_renderings):
                files = _rendering(concept, number, folder, own)
                yield _Item(concept.name, concept, files)
        return
    for subgroup in large_subgroups(concepts):
        for concept in concepts:
            if concept.subgroup == subgroup:
                yield _Item(subgroup, concept, _whole(concept, folder, options))


def order_of_vendors(concept: Concept, vendors: Sequence[Vendor]) -> tuple[Vendor, ...]:
    """Shuffle ``vendors`` by hashes: an order that tells nothing of another concept's."""

    def place(vendor: str) -> str:
        return hashlib.sha256(f"{concept.name}\0{vendor}".encode()).hexdigest()

    return tuple(sorted(vendors, key=place))


def _rendering(
    concept: Concept, number: int, folder: Path, options: ConceptsOptions
) -> dict[str, Source]:
    found: dict[str, Source] = {}
    if number < len(options.vendors):
        _add(found, "image", folder, concept.images.get(options.vendors[number]))
    if number < len(options.languages):
        language = options.languages[number]
        if language in concept.texts:
            found["text"] = concept.texts[language].encode()
        if language in options.voices:
            _add(found, "audio", folder, concept.sounds.get(language))
    if number == 0:
        _add(found, "video", folder, concept.clip)
    return found


def _whole(concept: Concept, folder: Path, options: ConceptsOptions) -> dict[str, Source]:
    """Take the first of each modality that there is."""
    found: dict[str, Source] = {}
    for number in range(options.n_renderings):
        found = _rendering(concept, number, folder, options) | found
    return found


def _add(found: dict[str, Source], modality: str, folder: Path, path: str | None) -> None:
    if path:
        found[modality] = FileBytes(folder / path)


def _classes(items: Sequence[_Item]) -> list[ClassInfo]:
    counts: dict[str, int] = {}
    for item in items:
        counts[item.class_name] = counts.get(item.class_name, 0) + 1
    groups = {item.class_name: item.concept.category for item in items}
    return [ClassInfo(name, groups[name], count) for name, count in counts.items()]


def _splits(items: Sequence[_Item], options: ConceptsOptions) -> Splits:
    names = list(dict.fromkeys(item.class_name for item in items))
    if options.classes == "concept":
        split_of = {item.class_name: item.concept.split for item in items}
    else:
        split_of = split_subgroups(names)
    splits: dict[str, list[str]] = {META_TRAIN: [], META_VAL: [], META_TEST: []}
    for name in names:
        splits[split_of[name]].append(name)
    return splits


def _unreadable(
    manifest: Path, items: Sequence[_Item], problems: Sequence[DecodeProblem]
) -> DataCorruptError:
    first = problems[0]
    return DataCorruptError(
        f"{manifest}: {len(problems)} of its files cannot be read; the first is the "
        f"{first.modality} of {items[first.item].concept.name!r}: {first.why}; get them again"
    )
