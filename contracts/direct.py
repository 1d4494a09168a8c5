"""Direct transfers over HTTP: what a request for a blob says, and how both ends prove themselves.

Each request carries a bearer token of its own, an HMAC of its method and target with the signing
key. Somebody who reads it on the way cannot ask for anything else with it. Each answer carries an
HMAC in return, so that a worker gives nothing to a server that does not know the key.

Neither has a nonce, and the body of a sum is not part of the code. Without TLS, a token that was
read on the way can be replayed as long as its key is on offer or expected: that fetches the same
state again, or hands in other bytes for the same sum, whose digest then differs from the signed
result's: they are refused, which costs another attempt.
"""

import hashlib
import hmac
from typing import Final
from urllib.parse import quote

PROOF_HEADER: Final = "Metafleet-Proof"

CHUNK_BYTES: Final = 2**20
"""How much is hashed at a time, while more is on its way."""

TIMEOUT_S: Final = 30.0
"""How long the other end may be silent in the middle of a blob."""

_PURPOSE: Final = "metafleet direct transfer"


def state_target(key: str, n_bytes: int) -> str:
    """Return the target of a request for a state: GET fetches it."""
    return _target("states", key, n_bytes)


def sum_target(key: str, n_bytes: int) -> str:
    """Return the target of a request about a sum: HEAD asks if it is wanted, PUT hands it in."""
    return _target("sums", key, n_bytes)


def authorization(signing_key: str, method: str, target: str) -> str:
    """Return the Authorization header that proves a worker."""
    return "Bearer " + _code(signing_key, "request", method, target)


def proof(signing_key: str, method: str, target: str) -> str:
    """Return the header of an answer that proves the orchestrator."""
    return _code(signing_key, "answer", method, target)


def is_same(found: str, expected: str) -> bool:
    """Return whether two tokens are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(found.encode(), expected.encode())


def _target(kind: str, key: str, n_bytes: int) -> str:
    return f"/{kind}/{n_bytes}/{quote(key, safe='')}"


def _code(signing_key: str, *words: str) -> str:
    text = "\n".join((_PURPOSE, *words))
    return hmac.new(signing_key.encode(), text.encode(), hashlib.sha256).hexdigest()
