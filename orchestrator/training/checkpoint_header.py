"""The header of a checkpoint: text that is stored with the tensors and has its own digest.

    format      number of this format
    progress    the run's step and its validation results so far
    terms       configuration and data digest of the run, as JSON; they determine its result
    sha256      digest of the tensors
    digest      sha256 of all of the above

Format 1 had no terms and no digest. It can still be read, so that runs continue after an upgrade.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from metafleet.digests import json_sha256
from metafleet.errors import CheckpointError

FORMAT: Final = "metafleet-checkpoint-2"
FORMAT_WITHOUT_DIGEST: Final = "metafleet-checkpoint-1"
_DIGEST: Final = "digest"
_LARGEST_STEP: Final = 2**53
Terms = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The progress of a run at a checkpoint.

    Attributes:
        step: number of outer steps done.
        best_step: step of the best validation; 0 before the first validation.
        best_score: score of the best validation, higher is better; None before the first.
        validations_since_best: number of validations since the best one.
        is_unjudged: whether this state is due for a validation that has no result yet. If so, it
            must be validated before training continues.
    """

    step: int
    best_step: int = 0
    best_score: float | None = None
    validations_since_best: int = 0
    is_unjudged: bool = False

    @classmethod
    def from_json(cls, text: str) -> "TrainingProgress":
        """Parse the text that ``to_json`` returned, and check the types and ranges of its values.

        Raises:
            ValueError, TypeError: the text is not valid progress.
        """
        found = cls(**json.loads(text))
        counts = (found.step, found.best_step, found.validations_since_best)
        are_counts = all(type(n) is int and 0 <= n <= _LARGEST_STEP for n in counts)
        is_score = found.best_score is None or type(found.best_score) in (int, float)
        is_sound = are_counts and is_score and type(found.is_unjudged) is bool
        if not is_sound or found.best_step > found.step:
            raise ValueError(f"progress {text!r:.120}")
        return found


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """The metadata of a checkpoint file.

    Attributes:
        progress: the run's step and its validation results so far.
        terms: the run's configuration and data digest; empty if they are not stored.
        sha256: digest of the tensors.
        has_digest: whether the header contains a digest of its other entries; False in format 1.
    """

    progress: TrainingProgress
    terms: Terms
    sha256: str
    has_digest: bool = True

    def to_metadata(self) -> dict[str, str]:
        """Return the texts from which ``from_metadata`` restores the header."""
        texts = {
            "format": FORMAT,
            "progress": json.dumps(asdict(self.progress)),
            "terms": json.dumps(self.terms, sort_keys=True),
            "sha256": self.sha256,
        }
        return {**texts, _DIGEST: _digest(texts)}

    @classmethod
    def from_metadata(cls, texts: Mapping[str, str]) -> "CheckpointHeader":
        """Parse the texts that ``to_metadata`` returned, or the texts of format 1.

        Raises:
            CheckpointError: the format is unknown, or the digest does not match. The message does
                not name the file, so the caller must add it.
            ValueError, TypeError, KeyError: the texts are not a header.
        """
        found = texts.get("format")
        if found == FORMAT_WITHOUT_DIGEST and _DIGEST not in texts:
            progress = TrainingProgress.from_json(texts["progress"])
            return cls(progress, {}, texts["sha256"], has_digest=False)
        if found not in (FORMAT, FORMAT_WITHOUT_DIGEST):
            raise CheckpointError(f"is not a checkpoint of this version ({FORMAT})")
        if _digest(texts) != texts.get(_DIGEST):
            raise CheckpointError("is damaged: its header does not hash to its digest")
        if found != FORMAT:
            raise CheckpointError(f"is damaged: {found!r} has no digest, and this header has")
        return cls(
            TrainingProgress.from_json(texts["progress"]),
            json.loads(texts["terms"]),
            texts["sha256"],
        )


def first_difference(written: Terms, expected: Terms, *, under: str = "") -> str:
    """Describe the first common key whose values differ, with both values; "" if there is none.

    A key that only one side has is ignored, because another version of this code may have added or
    removed the key.
    """
    for key in sorted(written.keys() & expected.keys()):
        before, now = written[key], expected[key]
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            if inner := first_difference(before, now, under=f"{under}{key}."):
                return inner
        elif before != now:
            return f"{under}{key}={before!r:.60}, the run has {now!r:.60}"
    return ""


def _digest(texts: Mapping[str, str]) -> str:
    covered = {name: text for name, text in texts.items() if name != _DIGEST}
    return json_sha256(covered)
