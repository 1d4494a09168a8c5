"""CLINC150: 150 intents of 10 domains, 150 short English queries each.

Source: Larson et al. 2019, arXiv:1909.02027. Classes are intents. The items of a class are its
queries from all three published parts: training, validation and test. Each split consists of whole
domains, so training contains neither the intents nor the topics of meta-testing. Out-of-scope
queries are left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from metafleet.data.decoding.columns import Column
from metafleet.data.decoding.encoded_columns import prepare_columns
from metafleet.data.decoding.text import TextOptions, text_options
from metafleet.data.prepared.class_data import Splits
from metafleet.data.prepared.download import RemoteFile, download, hash_file
from metafleet.data.prepared.prepared import ClassInfo, PreparedData
from metafleet.data.prepared.preparing import Content
from metafleet.data.stored import Original, StoredDataSet
from metafleet.data.summary import Progress
from metafleet.encoders.choice import NO_ENCODER, EncoderChoice
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from metafleet.errors import DataCorruptError
from metafleet.options import require

_RECIPE_VERSION = 1
_FILE = "data_full.json"
_PARTS = ("train", "val", "test")
_QUERIES_EACH = 150
REMOTE = RemoteFile(
    name=_FILE,
    url=(
        "https://raw.githubusercontent.com/clinc/oos-eval/"
        "828f8093932c8fe6ca7936c3d2e52903b1c523de/data/data_full.json"
    ),
    n_bytes=2_495_390,
    sha256="36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
)
_DOMAINS: Mapping[str, list[str]] = json.loads(
    Path(__file__).with_name("clinc150_domains.json").read_text(encoding="utf-8")
)
Domain = Literal[
    "banking",
    "credit_cards",
    "kitchen_and_dining",
    "home",
    "auto_and_commute",
    "travel",
    "utility",
    "work",
    "small_talk",
    "meta",
]


@dataclass(frozen=True, slots=True)
class Clinc150Options:
    """Options of ``Clinc150``.

    Attributes:
        modalities: must be ("text",), the only modality.
        encoder: "bytes" stores the queries as bytes, at most 136 per query. "minilm" is short for
            ``text.encoder`` = "package:minilm".
        text: the pretrained encoder of the queries.
        val_domains: domains of meta-validation.
        test_domains: domains of meta-testing. Domains in neither list are for training.
        root: path on the machine that starts a run: the path of data_full.json, or of a clone of
            clinc/oos-eval. "" selects the downloaded file.
    """

    modalities: tuple[Literal["text"], ...] = ("text",)
    encoder: str = "bytes"
    text: EncoderChoice = NO_ENCODER
    val_domains: tuple[Domain, ...] = ("utility", "work")
    test_domains: tuple[Domain, ...] = ("small_talk", "meta")
    root: str = ""

    def __post_init__(self) -> None:
        require(self.modalities == ("text",), "modalities", list(self.modalities), '["text"]')
        chosen = (*self.val_domains, *self.test_domains)
        is_sound = len(set(chosen)) == len(chosen) < len(_DOMAINS)
        _ = self.text_options  # checks the encoder
        expected = "domains that are not in val_domains, and some left for training"
        require(is_sound, "test_domains", list(self.test_domains), expected)

    @property
    def text_options(self) -> TextOptions:
        """Options of the decoder of the queries."""
        return text_options(self.encoder, self.text, max_bytes=136)


class Clinc150(StoredDataSet[Clinc150Options]):
    """The data set."""

    name = "clinc150"
    title = "22,500 English queries of 150 intents in 10 domains"
    licence = "CC BY 3.0, Larson et al. 2019"
    origin = "https://github.com/clinc/oos-eval (downloaded by `metafleet data prepare`)"
    Options = Clinc150Options
    expected = "data_full.json, or a folder with it or with data/data_full.json"
    how_to_get = "run `metafleet data prepare clinc150`, or set data.root to where you have it"

    def recipe(self, options: Clinc150Options) -> Mapping[str, Any]:
        """Return how queries are stored."""
        column = Column("text", "text", options.text_options, ())
        return {"recipe": _RECIPE_VERSION, "text": column.recipe()}

    def find_original(self, root: Path, options: Clinc150Options) -> Original | str:
        """Find data_full.json."""
        for path in (root, root / _FILE, root / "data" / _FILE):
            if path.is_file():
                return Original(hash_file(path), partial(_read, path, options))
        return f"it has no {_FILE}"

    def splits(self, options: Clinc150Options, prepared: PreparedData) -> Splits:
        """Return split -> the intents of its domains."""
        split_of = dict.fromkeys(options.val_domains, META_VAL)
        split_of |= dict.fromkeys(options.test_domains, META_TEST)
        splits: dict[str, list[str]] = {META_TRAIN: [], META_VAL: [], META_TEST: []}
        for domain, intents in _DOMAINS.items():
            splits[split_of.get(domain, META_TRAIN)] += intents  # type: ignore[call-overload]
        return splits

    def download(self, options: Clinc150Options, folder: Path, progress: Progress) -> None:
        """Download the pinned data_full.json."""
        download(REMOTE, folder, progress=progress)


def _read(path: Path, options: Clinc150Options, scratch: Path, progress: Progress) -> Content:
    queries = _queries(path)
    texts = [text.encode() for intents in _DOMAINS.values() for i in intents for text in queries[i]]
    decoded = prepare_columns(
        [Column("text", "text", options.text_options, texts)], scratch, progress=progress
    )
    if decoded.problems:
        problem = decoded.problems[0]
        raise DataCorruptError(f"{path}: query {problem.item}: {problem.why}; get the file again")
    return Content(
        classes=[
            ClassInfo(intent, domain, len(queries[intent]))
            for domain, intents in _DOMAINS.items()
            for intent in intents
        ],
        arrays=decoded.arrays,
        encoders=decoded.encoders,
        present={},
        facts={
            "sha256 of the original is the published one": "yes"
            if hash_file(path) == REMOTE.sha256
            else "no"
        },
    )


def _queries(path: Path) -> dict[str, list[str]]:
    """Return intent -> its queries, in the order of the file."""
    try:
        whole = json.loads(path.read_bytes())
        found: dict[str, list[str]] = {i: [] for intents in _DOMAINS.values() for i in intents}
        for part in _PARTS:
            for query, intent in whole[part]:
                found[intent].append(query)
        wrong = [intent for intent, texts in found.items() if len(texts) != _QUERIES_EACH]
        if wrong:
            raise ValueError(f"intent {wrong[0]!r} has {len(found[wrong[0]])} queries")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataCorruptError(
            f"{path} cannot be read as CLINC150 ({type(error).__name__}: {error}); expected "
            "data_full.json with 150 queries of each of 150 intents"
        ) from error
    return found
