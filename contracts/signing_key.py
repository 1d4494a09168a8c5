"""What may be shown of the signing key: which one it is, and that a process has it.

Neither tells the key itself. Both exist so that a process with another key is named, rather than
left to drop every message of the others.
"""

import hashlib
import hmac
from typing import Final

_NO_KEY: Final = "unsigned"


def key_id(signing_key: str) -> str:
    """Name a signing key: equal for equal keys, 16 hexadecimal digits; "unsigned" for none."""
    return _hmac(signing_key, "which key")[:16] if signing_key else _NO_KEY


def prove_key(signing_key: str, who: str) -> str:
    """Return what only a holder of the key can say of ``who``; "" without a key."""
    return _hmac(signing_key, f"held by {who}") if signing_key else ""


def is_proof(proof: str, signing_key: str, who: str) -> bool:
    """Return whether ``proof`` shows that ``who`` has this key, or none like us."""
    return hmac.compare_digest(proof.encode(), prove_key(signing_key, who).encode())


def _hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), f"metafleet: {text}".encode(), hashlib.sha256).hexdigest()
