"""Digest of JSON values, the same for any order of keys, and how deep such values may be."""

import hashlib
import json
from typing import Any, Final

MOST_LEVELS: Final = 100
"""Maximum number of levels of lists and mappings in values from others."""


def json_sha256(values: Any) -> str:
    """Return the SHA-256 of JSON values, in hexadecimal.

    Args:
        values: JSON values: mappings with text keys, lists, texts, numbers, booleans and None.

    Raises:
        TypeError: a value has no form in JSON.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def is_deep(values: Any) -> bool:
    """Return whether JSON values are nested in more than ``MOST_LEVELS`` levels.

    A function that reads such deeply nested values can exhaust its stack.
    """
    level = [values]
    for _ in range(MOST_LEVELS):
        parts = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for inner in parts for one in inner if isinstance(one, dict | list)]
        if not level:
            return False
    return True
