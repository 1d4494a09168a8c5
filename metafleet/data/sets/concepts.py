"""Concepts: 279 things (frog, apple, hammer) as pictures, written and spoken words, and clips.

Pictures are the emoji of four vendors. Texts are the names of the things in 13 languages. Sounds
are the names in five of these languages, spoken by one speaker per language. Clips are animated
emoji. An item whose file for a modality is missing lacks this modality.

**Items.** A vendor's picture and a word in some language have only the concept in common, so the
picture and the word could be two separate items. Instead, items are *renderings*. Item j of a
concept has the written word in the j-th of ``languages``. If there is a recording in this language,
the item also has the spoken word. The item's picture is by the j-th vendor, where the order of
``vendors`` differs between concepts. Item 0 also has the clip. As a result:

- To classify concepts by one modality, a learner must find what the renderings of a concept have in
  common across vendors, languages and speakers. A rendering that lacks the modality is never drawn.
- Fusion sees several modalities of an item at once. Some items lack a modality because its file
  does not exist. No two items of a class share a file, so nothing leaks from support to query.
- A cross-modal episode (hear a word once, then find its picture) takes support and query from
  different renderings. The support set shows one modality, and the query set shows another.

The order of vendors depends on the concept, because support and query use different items. Suppose
that a language always came with the same vendor. The style of a query's picture would then rule out
all classes heard in that language. In cross-modal 5-way episodes, a learner that knows no word
would reach an accuracy of 25 % by the style alone.

With ``classes = "subgroup"``, the classes are Unicode's subgroups (animal-bird, food-fruit). Each
concept is then one item, which has the concept's first existing picture, text, sound and clip.
Suppose that an item were a rendering, as above. Support and query could then show the same concept,
such as the same bird, and a learner would only have to recognise this bird. It would not have to
tell birds from fruit. If classes are concepts, their splits are the published ones. If classes are
subgroups, each subgroup is in one split. In both cases, splits share no class.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from metafleet.data.decoding.audio import AudioOptions
from metafleet.data.decoding.columns import Column, DecodeProblem
from metafleet.data.decoding.encoded_columns import prepare_columns
from metafleet.data.decoding.image import ImageOptions
from metafleet.data.decoding.source import FileBytes, Source
from metafleet.data.decoding.text import text_options
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
from metafleet.encoders.choice import NO_ENCODER, EncoderChoice
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
        classes: "concept" makes each concept a class. The items of such a class are *renderings*:
            the concept in one language and as one vendor's picture. "subgroup" makes each of
            Unicode's subgroups, such as animal-bird, a class. The items of such a class are
            concepts.
        vendors: vendors of the pictures. With subgroups, the picture is from the first vendor that
            has the concept.
        languages: languages of texts and sounds. The first rendering of each concept has the first
            language, the second rendering the second language, and so on.
        voices: those of ``languages`` whose sounds are used. Items in the other languages have no
            sound. The licence of the French and German sounds is GPL-3.0-or-later.
        side: height and width of pictures and clips, in pixels.
        encoder: "bytes" stores texts as bytes. "minilm" is short for ``text.encoder`` =
            "package:minilm".
        image, text, audio, video: the pretrained encoder of each modality.
        root: the folder with manifest.csv, on the machine that starts a run.
    """

    modalities: tuple[ModalityName, ...] = ("image",)
    classes: Literal["concept", "subgroup"] = "concept"
    vendors: tuple[Vendor, ...] = ("noto", "twemoji", "openmoji", "fluent")
    languages: tuple[Language, ...] = ("en", "es", "gd", "fr", "de")
    voices: tuple[Voice, ...] = ("en", "es", "gd", "fr", "de")
    side: int = 32
    encoder: str = "bytes"
    image: EncoderChoice = NO_ENCODER
    text: EncoderChoice = NO_ENCODER
    audio: EncoderChoice = NO_ENCODER
    video: EncoderChoice = NO_ENCODER
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
        """Modality -> options of its decoder."""
        all_of_them: dict[str, Any] = {
            "image": ImageOptions(**asdict(self.image), side=self.side),
            "text": text_options(self.encoder, self.text, max_bytes=112),
            "audio": AudioOptions(**asdict(self.audio), duration_s=1.5, hop_ms=20.0),
            "video": VideoOptions(**asdict(self.video), frames=8, side=self.side),
        }
        return {name: all_of_them[name] for name in self.modalities}

    @property
    def n_renderings(self) -> int:
        """Number of items per concept, including those without any chosen modality."""
        return max(len(self.vendors), len(self.languages))


class Concepts(StoredDataSet[ConceptsOptions]):
    """The data set."""

    name = "concepts"
    title = "279 things as pictures, texts, spoken words and clips, with real gaps"
    licence = (
        "by column: pictures Apache-2.0 (Noto), CC BY 4.0 (Twemoji), CC BY-SA 4.0 (OpenMoji), MIT "
        "(Fluent); texts Unicode-3.0; sounds CC BY-SA (en, es), public domain (gd), "
        "GPL-3.0-or-later (fr, de; to avoid this licence, leave both out of voices)"
    )
    origin = (
        "emoji by Noto, Twemoji, OpenMoji and Fluent, names by Unicode CLDR, words by GCompris; "
        "put manifest.csv and its folders somewhere and set root"
    )
    Options = ConceptsOptions
    expected = "a folder with manifest.csv, images/, audio/ and video/"
    how_to_get = "set data.root to the folder that has its manifest.csv, images, audio and video"

    def recipe(self, options: ConceptsOptions) -> Mapping[str, Any]:
        """Return the decoder options, and the options that determine the renderings."""
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
        """Find the manifest; the files it names are decoded only when the data are read."""
        manifest = find_manifest(root)
        if manifest is None:
            return "it has no manifest.csv"
        return Original(fingerprint(manifest), partial(_read, manifest, options))

    def splits(self, options: ConceptsOptions, prepared: PreparedData) -> Splits:
        """Return the splits that the preparation decided."""
        return prepared.splits


@dataclass(frozen=True, slots=True)
class _Item:
    class_name: str
    concept: Concept
    files: Mapping[str, Source]
    """Modality -> its source; missing modalities have no key."""


def _read(manifest: Path, options: ConceptsOptions, scratch: Path, progress: Progress) -> Content:
    concepts = read_manifest(manifest)
    items = list(_items(concepts, manifest.parent, options))
    columns = [
        Column(name, name, decoder, [item.files.get(name) for item in items])
        for name, decoder in options.decoders.items()
    ]
    decoded = prepare_columns(columns, scratch, progress=progress)
    if decoded.problems:
        raise _unreadable(manifest, items, decoded.problems)
    return Content(
        classes=_classes(items),
        arrays=decoded.arrays,
        encoders=decoded.encoders,
        views=decoded.views,
        present={},
        facts={"concepts": str(len(concepts))},
        masks=decoded.masks,
        splits=_splits(items, options),
    )


def _items(concepts: Sequence[Concept], folder: Path, options: ConceptsOptions) -> Iterator[_Item]:
    """Yield the items, class by class."""
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
    """Shuffle ``vendors`` by hashes: orders of different concepts are independent."""

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
    """Return the first existing source of each modality."""
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
