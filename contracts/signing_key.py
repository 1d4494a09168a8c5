"""Identifies a signing key, and proves that a process has it, without revealing the key.

A process with another key silently drops all messages. The id and the proof make it possible to
report a process with another key.
"""

import hashlib
import hmac
from typing import Final

_NO_KEY: Final = "unsigned"


def key_id(signing_key: str) -> str:
    """Return an id of a signing key: 16 hexadecimal digits, or "unsigned" for no key."""
    return _hmac(signing_key, "which key")[:16] if signing_key else _NO_KEY


def prove_key(signing_key: str, who: str) -> str:
    """Return a proof for ``who`` that only a holder of the key can compute; "" without a key."""
    return _hmac(signing_key, f"held by {who}") if signing_key else ""


def is_proof(proof: str, signing_key: str, who: str) -> bool:
    """Return whether ``proof`` shows that ``who`` has this key; without a key, that it has none."""
    return hmac.compare_digest(proof.encode(), prove_key(signing_key, who).encode())


def _hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), f"metafleet: {text}".encode(), hashlib.sha256).hexdigest()
