"""Names that folders, files and tables use for the splits."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from metafleet.episode import META_TEST, META_TRAIN, META_VAL

_SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)(-[0-9a-f]+)?\.parquet", re.IGNORECASE)
_NAMES = {
    META_TRAIN: ("train", "training", "meta_train", "meta-train", "metatrain", "base"),
    META_VAL: ("val", "valid", "validation", "dev", "meta_val", "meta-val", "metaval"),
    META_TEST: ("test", "testing", "eval", "evaluation", "novel", "meta_test", "meta-test"),
}
SPLIT_OF: Mapping[str, str] = MappingProxyType(
    {name: split for split, names in _NAMES.items() for name in names}
)
"""Name, in lower case -> split."""


def find_split(name: str) -> str:
    """Return the split that a folder, file or cell names; "" if it names none."""
    return SPLIT_OF.get(name.strip().lower(), "")


def shard_name(name: str) -> str:
    """Return the split in a shard's name: "train" for "train-00000-of-00002.parquet"; or ""."""
    found = _SHARD.fullmatch(name)
    return found[1] if found else ""


def shard_numbers(name: str) -> tuple[int, int]:
    """Return a shard's number, as in its name, and the total; (0, 1) if it is not a shard."""
    found = _SHARD.fullmatch(name)
    return (int(found[2]), int(found[3])) if found else (0, 1)
