"""Free Spoken Digit Dataset: ten digits, six English speakers, 50 recordings each.

Source: Jackson et al., doi:10.5281/zenodo.1342401. A class is a digit, spoken by all speakers of a
split. The digits are the same in every split, but the speakers differ. Meta-testing shows whether a
model can learn a digit from some recordings of unseen speakers and recognise the digit in other
recordings of unseen speakers. If ``digits`` is set, each recording is paired with a written digit
of MNIST. The recording and the written digit have the same class but are otherwise independent.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metafleet.data.decoding.audio import AudioOptions
from metafleet.data.decoding.columns import Column, Decoded
from metafleet.data.decoding.encoded_columns import prepare_columns
from metafleet.data.decoding.ink import encode_ink, ink_options, ink_recipe
from metafleet.data.decoding.source import Source
from metafleet.data.prepared.class_data import Splits
from metafleet.data.prepared.download import download
from metafleet.data.prepared.prepared import Array, ClassInfo, PreparedData
from metafleet.data.prepared.preparing import Content
from metafleet.data.sets.fsdd_files import (
    ARCHIVE,
    N_EACH,
    SPEAKERS,
    Recordings,
    find_recordings,
)
from metafleet.data.sets.mnist import Digits, find_digits
from metafleet.data.stored import Original, StoredDataSet
from metafleet.data.summary import Progress
from metafleet.encoders.choice import NO_ENCODER, EncoderChoice
from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from metafleet.errors import DataCorruptError, DataMissingError
from metafleet.options import require
from metafleet.seeds import CounterRng

_RECIPE_VERSION = 1
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Speaker = Literal["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]


@dataclass(frozen=True, slots=True)
class FsddOptions:
    """Options of ``Fsdd``.

    Attributes:
        modalities: "audio" (log-mel [n_mels, frames] of the first second), "image" [1, 28, 28]
            (needs ``digits``), or both.
        val_speakers: speakers of meta-validation.
        test_speakers: speakers of meta-testing. Speakers in neither list are for training.
        n_mels: number of bands of the spectrogram.
        hop_ms: milliseconds from one column of the spectrogram to the next.
        audio: the pretrained encoder of the recordings.
        image: the pretrained encoder of the written digits.
        digits: path of MNIST, which the modality "image" needs. The path is that of
            mnist10k_28x28.npz, or of a folder with the idx files of the 10,000 test digits, such as
            torchvision's root.
        root: path on the machine that starts a run: the path of the folder of the recordings, of a
            folder that contains recordings/, or of the archive. "" selects the downloaded archive.
    """

    modalities: tuple[Literal["audio", "image"], ...] = ("audio",)
    val_speakers: tuple[Speaker, ...] = ("nicolas",)
    test_speakers: tuple[Speaker, ...] = ("theo", "yweweler")
    n_mels: int = 40
    hop_ms: float = 20.0
    audio: EncoderChoice = NO_ENCODER
    image: EncoderChoice = NO_ENCODER
    digits: str = ""
    root: str = ""

    def __post_init__(self) -> None:
        is_sound = len(self.modalities) > 0 and len(set(self.modalities)) == len(self.modalities)
        expected = "one or more different modalities"
        require(is_sound, "modalities", list(self.modalities), expected)
        chosen = (*self.val_speakers, *self.test_speakers)
        is_split = len(set(chosen)) == len(chosen) < len(SPEAKERS)
        expected = "speakers that are not in val_speakers, and some left for training"
        require(is_split, "test_speakers", list(self.test_speakers), expected)
        _ = self.audio_options, ink_options(self.image)  # checks the ranges

    @property
    def audio_options(self) -> AudioOptions:
        """Options of the decoder of the recordings. 95 % of them last less than 0.67 s."""
        return AudioOptions(
            **asdict(self.audio),
            sample_rate_hz=8000,
            duration_s=1.0,
            n_mels=self.n_mels,
            hop_ms=self.hop_ms,
        )

    @property
    def speakers(self) -> dict[str, list[str]]:
        """Split -> its speakers."""
        held_out = (*self.val_speakers, *self.test_speakers)
        return {
            META_TRAIN: [name for name in SPEAKERS if name not in held_out],
            META_VAL: [name for name in SPEAKERS if name in self.val_speakers],
            META_TEST: [name for name in SPEAKERS if name in self.test_speakers],
        }


class Fsdd(StoredDataSet[FsddOptions]):
    """The data set."""

    name = "fsdd"
    title = "3,000 spoken digits of six speakers, optionally with written digits"
    licence = "CC BY-SA 4.0; MNIST's digits: commonly given as CC BY-SA 3.0"
    origin = (
        "https://github.com/Jakobovski/free-spoken-digit-dataset "
        "(downloaded by `metafleet data prepare`)"
    )
    Options = FsddOptions
    expected = "recordings/0_george_0.wav and so on, 3,000 in all, or the archive of the repository"
    how_to_get = "run `metafleet data prepare fsdd`, or set data.root to where you have it"

    def recipe(self, options: FsddOptions) -> Mapping[str, Any]:
        """Return which data are stored, and which speakers make up the classes."""
        column = Column("audio", "audio", options.audio_options, ())
        return {
            "recipe": _RECIPE_VERSION,
            "speakers": options.speakers,
            "audio": column.recipe() if "audio" in options.modalities else None,
            "image": "image" in options.modalities,
            **(ink_recipe(options.image) if "image" in options.modalities else {}),
        }

    def check_place(self, options: FsddOptions) -> None:
        """Check that ``root`` and, if needed, ``digits`` hold the data."""
        if "image" in options.modalities and _find_digits(options) is None:
            raise DataMissingError(
                f"cannot read MNIST's test digits from digits={options.digits!r}; expected a "
                "folder with t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped or not, or "
                "the npz; set data.digits, or leave out 'image'"
            )
        super().check_place(options)

    def find_original(self, root: Path, options: FsddOptions) -> Original | str:
        """Find the recordings, and the written digits if they are needed."""
        recordings = find_recordings(root)
        if recordings is None:
            return "it has no recordings of FSDD"
        fingerprint = recordings.fingerprint
        digits = None
        if "image" in options.modalities:
            digits = _find_digits(options)
            if digits is None:
                return "data.digits has no written digits"
            fingerprint = hashlib.sha256(
                f"{fingerprint}\0{digits.fingerprint}".encode()
            ).hexdigest()
        return Original(fingerprint, partial(_read, recordings, digits, options))

    def splits(self, options: FsddOptions, prepared: PreparedData) -> Splits:
        """Return split -> the ten digits, spoken by its speakers."""
        return {
            split: [_class_name(digit, speakers) for digit in range(10)] if speakers else []
            for split, speakers in options.speakers.items()
        }

    def download(self, options: FsddOptions, folder: Path, progress: Progress) -> None:
        """Download the archive of the repository at a pinned commit, and check its contents."""
        download(ARCHIVE, folder, progress=progress)


def _class_name(digit: int, speakers: Sequence[str]) -> str:
    return f"{_WORDS[digit]} by {', '.join(speakers)}"


def _find_digits(options: FsddOptions) -> Digits | None:
    return find_digits(Path(options.digits).expanduser()) if options.digits else None


def _read(
    recordings: Recordings,
    digits: Digits | None,
    options: FsddOptions,
    scratch: Path,
    progress: Progress,
) -> Content:
    groups = [(digit, names) for names in options.speakers.values() for digit in range(10) if names]
    keys = [
        (digit, speaker, take)
        for digit, names in groups
        for speaker in names
        for take in range(N_EACH)
    ]
    parts: list[Decoded] = []
    if "audio" in options.modalities:
        sources = recordings.read()
        parts.append(_decode([sources[key] for key in keys], options, scratch, progress))
    if digits is not None:
        written = _written([digit for digit, _, _ in keys], digits)
        parts.append(encode_ink(written, options.image, scratch, progress))
    return Content(
        classes=[
            ClassInfo(_class_name(digit, names), ", ".join(names), N_EACH * len(names))
            for digit, names in groups
        ],
        arrays={name: it for part in parts for name, it in part.arrays.items()},
        encoders={name: it for part in parts for name, it in part.encoders.items()},
        views={name: it for part in parts for name, it in part.views.items()},
        present={},
        facts={"read from": recordings.kind},
    )


def _decode(
    sources: Sequence[Source], options: FsddOptions, scratch: Path, progress: Progress
) -> Decoded:
    column = Column("audio", "audio", options.audio_options, sources)
    decoded = prepare_columns([column], scratch, progress=progress)
    if decoded.problems:
        problem = decoded.problems[0]
        raise DataCorruptError(
            f"{len(decoded.problems)} of FSDD's recordings cannot be read, the first is "
            f"{sources[problem.item]!r:.200}: {problem.why}; get the data again"
        )
    return decoded


def _written(wanted: Sequence[int], digits: Digits) -> Array:
    """Return a different written digit of the same class for each recording."""
    images, labels = digits.read()
    chosen = np.zeros(len(wanted), np.int64)
    for digit in range(10):
        items = [item for item, value in enumerate(wanted) if value == digit]
        pool = np.flatnonzero(labels == digit)
        if len(pool) < len(items):
            raise DataCorruptError(
                f"MNIST has {len(pool)} images of the digit {digit}; expected {len(items)} at least"
            )
        rng = CounterRng(0, "fsdd/written", index=digit)
        chosen[items] = pool[rng.sample(len(pool), len(items))]
    return images[chosen]
