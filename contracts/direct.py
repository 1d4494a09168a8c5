"""Direct transfers over HTTP: the form of a request, and how both ends authenticate.

Each request carries its own bearer token, an HMAC of its method and target with the signing key. An
eavesdropper cannot use the token for any other request. Each answer carries an HMAC too. A worker
checks the HMAC of an answer before it uploads a sum, so it sends no sum to a server that does not
know the signing key.

The HMACs contain no nonce and do not cover the bytes of an uploaded sum. Without TLS, an
eavesdropper can therefore repeat a request with its token. As long as the orchestrator offers a
state, the eavesdropper can download the state again. As long as the orchestrator expects a sum, the
eavesdropper can upload other bytes in place of the sum. The orchestrator refuses these bytes,
because their digest differs from the digest in the signed result. The shard then needs another
attempt.
"""

import hashlib
import hmac
from typing import Final
from urllib.parse import quote

PROOF_HEADER: Final = "Metafleet-Proof"

CHUNK_BYTES: Final = 2**20
"""Bytes hashed at a time while the next ones are in transit."""

TIMEOUT_S: Final = 30.0
"""How long the other end may pause in the middle of a blob."""

_PURPOSE: Final = "metafleet direct transfer"


def state_target(key: str, n_bytes: int) -> str:
    """Return the request target of a state. GET fetches it."""
    return _target("states", key, n_bytes)


def sum_target(key: str, n_bytes: int) -> str:
    """Return the request target of a sum. HEAD asks whether it is wanted, PUT uploads it."""
    return _target("sums", key, n_bytes)


def authorization(signing_key: str, method: str, target: str) -> str:
    """Return the Authorization header that authenticates a worker."""
    return "Bearer " + _code(signing_key, "request", method, target)


def proof(signing_key: str, method: str, target: str) -> str:
    """Return the answer's header that authenticates the orchestrator."""
    return _code(signing_key, "answer", method, target)


def is_same(found: str, expected: str) -> bool:
    """Return whether two tokens are equal, in constant time."""
    return hmac.compare_digest(found.encode(), expected.encode())


def _target(kind: str, key: str, n_bytes: int) -> str:
    return f"/{kind}/{n_bytes}/{quote(key, safe='')}"


def _code(signing_key: str, *words: str) -> str:
    text = "\n".join((_PURPOSE, *words))
    return hmac.new(signing_key.encode(), text.encode(), hashlib.sha256).hexdigest()
