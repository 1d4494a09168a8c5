"""A readable form of an encoder's identity. Commands that only read records import this quickly."""

from collections.abc import Mapping
from typing import Any, Final

_SETTINGS: Final = (".json", ".txt", ".toml", ".model")
"""Suffixes of files that are no weights."""


def has_same_weights(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two identities are of one model, which may encode different kinds of data."""
    return all(first.get(key) == second.get(key) for key in ("encoder", "weights", "sources"))


def describe_identity(identity: Mapping[str, Any]) -> str:
    """Return an encoder's name, and the first digits of the sha256 of each file of its weights."""
    files = dict(identity.get("weights", {}))
    weights = [name for name in files if not name.endswith(_SETTINGS)] or list(files)
    shown = ", ".join(f"{name} sha256 {files[name][:16]}" for name in weights)
    sources = f"sources {identity['sources']}" if "sources" in identity else ""
    return " ".join(filter(None, (str(identity.get("encoder", "")), shown, sources)))
