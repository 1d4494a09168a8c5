"""Encode names of classes as vectors in the same space as the features of the items.

Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (prompts and their ensembles).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.registry import get_encoder
from metafleet.encoders.text_bytes import TEXT_BYTES
from metafleet.episodes.class_names import words_of
from metafleet.errors import ConfigError, DataCorruptError, DataError
from metafleet.options import require

SLOT: Final = "{}"
"""The part of a prompt that the name of a class replaces."""
DEFAULT_PROMPT: Final = "a photo of a {}."
_TEXT: Final = "text"
_HAVE_ONE: Final = (
    "open_clip:FOLDER, hf:FOLDER of a model with two towers (CLIP, SigLIP), or a class of yours "
    "with logit_scale"
)


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """Options that turn names of classes into features.

    Attributes:
        encoder: the encoder of the items, such as "open_clip:/models/clip". The encoder's text
            tower encodes the names. With "", models get the bytes of the names.
        prompts: texts in which "{}" stands for the name. The features of each prompt are scaled to
            length 1. The features of a class are the mean over its prompts, scaled to length 1.
    """

    encoder: str = ""
    prompts: tuple[str, ...] = (DEFAULT_PROMPT,)

    def __post_init__(self) -> None:
        require(len(self.prompts) > 0, "prompts", list(self.prompts), "one prompt or more")
        for prompt in self.prompts:
            is_prompt = SLOT in prompt and prompt.isprintable()
            expected = f'a line of text with {SLOT}, such as "{DEFAULT_PROMPT}"'
            require(is_prompt, "prompt", prompt, expected)

    def embed(self, names: Sequence[str]) -> Array:
        """Return features of classes, float32 [n, d], each of length 1.

        Args:
            names: names of classes. Underscores, dashes and slashes become spaces.

        Raises:
            ConfigError: a prompt with a name filled in is too long for the encoder.
            DataError: features are not finite, or all 0.
            DataMissingError, DataCorruptError: the encoder's weights are missing or damaged.
        """
        tower = get_encoder(self.encoder, kind=_TEXT)
        words = [words_of(name) for name in names]
        of_prompts = [
            _unit(tower, _encode(tower, [prompt.replace(SLOT, each) for each in words]))
            for prompt in self.prompts
        ]
        return _unit(tower, np.mean(of_prompts, axis=0)).astype(np.float32)


NO_CLASS_TEXTS: Final = ClassTexts()
"""Default options: models get the bytes of names."""


def require_text_tower(encoder: PretrainedEncoder, kind: str) -> float:
    """Check that an encoder has a text tower. Return the factor that turns cosines into logits.

    Args:
        encoder: the encoder of the items.
        kind: kind of the items.

    Raises:
        ConfigError: the encoder has no text tower; the message lists encoders that have one.
        DataCorruptError: the factor is not finite, or not above 0.
    """
    scale = encoder.logit_scale
    if scale is None:
        raise ConfigError(
            f"encoder {encoder.name!r} of {kind!r} has no text tower, so it cannot compare items "
            f"with names of classes; choose one that has: {_HAVE_ONE}"
        )
    if not 0.0 < scale < float("inf"):
        raise DataCorruptError(
            f"encoder {encoder.name!r} has the factor {scale} of cosines with texts; expected a "
            "finite number above 0; get its weights again"
        )
    return scale


def _encode(tower: PretrainedEncoder, texts: Sequence[str]) -> Array:
    """Encode texts in batches."""
    items = np.zeros((len(texts), int(tower.reading(_TEXT).get("max_bytes", TEXT_BYTES))), np.uint8)
    for row, text in zip(items, texts, strict=True):
        data = np.frombuffer(text.encode(), np.uint8)
        if len(data) > len(row) or tower.too_long(_padded(data, len(row))):
            raise ConfigError(
                f"the text {text!r:.100} is too long for encoder {tower.name!r}; shorten the "
                "prompt or the name of the class"
            )
        row[: len(data)] = data
    return tower.encode_all(items)


def _padded(data: Array, n_bytes: int) -> Array:
    return np.pad(data, (0, n_bytes - len(data)))[None]


def _unit(tower: PretrainedEncoder, rows: Array) -> Array:
    """Scale rows to length 1, in float64."""
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise DataError(
            f"encoder {tower.name!r} gave features of names of classes that are 0 or not finite; "
            "check its weights"
        )
    return np.asarray(rows / lengths)
