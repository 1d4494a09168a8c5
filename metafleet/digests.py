"""Digest of JSON values, the same for any order of keys."""

import hashlib
import json
from typing import Any


def json_sha256(values: Any) -> str:
    """Return the SHA-256 of JSON values, in hexadecimal.

    Args:
        values: JSON values: mappings with text keys, lists, texts, numbers, booleans and None.

    Raises:
        TypeError: a value has no form in JSON.
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
