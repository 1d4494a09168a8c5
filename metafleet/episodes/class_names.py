"""Class names as a modality of the support set, and a count of texts that contain a class name.

Source: Xing et al. 2019, arXiv:1902.07104 (AM3): the class names of support examples are known, but
the class names of queries are not.
"""

import re
from collections.abc import Iterable, Sequence
from unicodedata import normalize

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT_BYTES


def name_bytes(name: str) -> Tensor:
    """Return a name's UTF-8 bytes as float32 [CLASS_TEXT_BYTES], truncated or padded with zeros.

    ``words_of`` first replaces underscores, dashes and slashes by spaces.
    """
    cut = words_of(name).encode()[:CLASS_TEXT_BYTES]
    return torch.tensor(list(cut.ljust(CLASS_TEXT_BYTES, b"\0")), dtype=torch.float32)


def count_leaks(names: Sequence[str], texts: Iterable[tuple[int, Sequence[int]]]) -> int:
    """Count the texts that contain the name of their class as whole words.

    Args:
        names: the classes' names.
        texts: for each item, (class, UTF-8 bytes padded with zeros).
    """
    patterns = [re.compile(rf"(?<!\w){re.escape(_folded(name))}(?!\w)") for name in names]
    n_leaks = 0
    for index, raw in texts:
        text = bytes(raw).rstrip(b"\0").decode(errors="replace")
        n_leaks += patterns[index].search(_folded(text)) is not None
    return n_leaks


def _folded(text: str) -> str:
    """Return a text case-folded and in Unicode normal form NFKC."""
    return normalize("NFKC", words_of(text)).casefold()


def words_of(name: str) -> str:
    """Return a name with spaces in place of underscores, dashes and slashes between words."""
    return " ".join(re.split(r"[\s_/-]+", name.strip()))
