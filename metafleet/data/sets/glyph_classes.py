"""Choose the characters that are classes, find their scripts, and remove look-alikes.

Latin A, Greek Alpha and Cyrillic A look the same. If one split had two such classes, no learner
could tell them apart. If a test class looked like a training class, the test class would not be
unseen. Of two look-alikes, only the first is kept. Characters are ordered by their splits
(meta_train, meta_val, meta_test) and, within a split, by their code points. Two characters are
look-alikes if, in at least half of the font faces that draw both, the correlation of their rasters
exceeds a threshold. For characters of different splits, the threshold is 0.97. Within a split it is
0.99, so that a letter with an accent remains distinct from the letter without one.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from metafleet.episode import META_TEST, META_TRAIN, META_VAL

SPLIT_OF_SCRIPT: Mapping[str, str] = {
    "Latin": META_TRAIN,
    "Cyrillic": META_TRAIN,
    "Common": META_TRAIN,
    "Greek": META_VAL,
    "Armenian": META_TEST,
    "Georgian": META_TEST,
    "Lao": META_TEST,
}
_SPLIT_RANK = {META_TRAIN: 0, META_VAL: 1, META_TEST: 2}
_OTHER_SPLIT_COSINE = 0.97
_SAME_SPLIT_COSINE = 0.99

Images = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


def candidates(faces: Iterable[Iterable[int]], *, min_faces: int) -> list[int]:
    """Return the visible code points that at least ``min_faces`` of ``faces`` have, sorted."""
    counts: dict[int, int] = {}
    for codes in faces:
        for code in codes:
            counts[code] = counts.get(code, 0) + 1
    return sorted(
        code
        for code, count in counts.items()
        if count >= min_faces and unicodedata.category(chr(code))[0] not in "CZ"
    )


def script_of(code: int) -> str:
    """Return the script that begins a character's Unicode name; "Common" for signs and marks."""
    first = unicodedata.name(chr(code), "").split(" ", 1)[0].capitalize()
    return first if first in SPLIT_OF_SCRIPT else "Common"


def class_name(code: int) -> str:
    """Return a class name, such as "U+0416 CYRILLIC CAPITAL LETTER ZHE"."""
    return f"U+{code:04X} {unicodedata.name(chr(code), '')}".rstrip()


def distinct_drawings(images: Images, drawn: Flags) -> Flags:
    """Return ``drawn`` with False in place of True for blank and duplicate drawings.

    A drawing is a duplicate if an earlier face draws the same character in the same way.

    Args:
        images: rasters [characters, faces, height, width].
        drawn: bool [characters, faces], True where a face has the character.
    """
    kept = drawn & images.any(axis=(2, 3))
    for row, marks in enumerate(kept):
        seen = set()
        for face in np.flatnonzero(marks):
            pixels = images[row, face].tobytes()
            if pixels in seen:
                kept[row, face] = False
            seen.add(pixels)
    return kept


def without_look_alikes(codes: Sequence[int], images: Images, drawn: Flags) -> list[int]:
    """Return the sorted rows of ``codes`` that remain after removing look-alikes."""
    rank = np.array([_SPLIT_RANK[SPLIT_OF_SCRIPT[script_of(code)]] for code in codes])
    order = np.lexsort((np.array(codes), rank))
    alike = _look_alikes(images[order], drawn[order], rank[order])
    kept: list[int] = []
    for position in range(len(order)):
        if not alike[position, kept].any():
            kept.append(position)
    return sorted(int(order[position]) for position in kept)


def _look_alikes(images: Images, drawn: Flags, rank: npt.NDArray[np.int_]) -> Flags:
    """Return which pairs of characters are look-alikes, bool [characters, characters].

    Grey values are reduced to 4 bits, so that sums of products of grey values are whole numbers
    below 2**24. Such numbers are exact in float32, so the result is the same on every machine.
    """
    n_characters, n_faces = drawn.shape
    flat = images.reshape(n_characters, n_faces, images.shape[2] * images.shape[3])
    same_split = rank[:, None] == rank[None, :]
    limit = np.where(same_split, _SAME_SPLIT_COSINE, _OTHER_SPLIT_COSINE).astype(np.float32) ** 2
    balance = np.zeros((n_characters, n_characters), np.int8)  # faces alike minus faces different
    shared = np.zeros((n_characters, n_characters), np.bool_)
    for face in range(n_faces):
        rows = np.flatnonzero(drawn[:, face])
        pixels = (flat[rows, face] >> 4).astype(np.float32)
        dots = pixels @ pixels.T
        norms = dots.diagonal()
        cells = np.ix_(rows, rows)
        is_alike = dots * dots > limit[cells] * norms[:, None] * norms[None, :]
        balance[cells] += np.where(is_alike, 1, -1).astype(np.int8)
        shared[cells] = True
    return shared & (balance >= 0)
