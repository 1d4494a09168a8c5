"""HMAC-SHA256 signatures over messages, with the deployment's key.

If a message refers to tensors, it contains their digest or seal. The signature of the message
therefore covers the tensors too.
"""

import hashlib
import hmac
import json
from typing import TypeVar

from metafleet.contracts.job import InnerLoopJob, ShardResult
from metafleet.errors import SignatureError

_M = TypeVar("_M", InnerLoopJob, ShardResult)


def sign(message: _M, key: str) -> _M:
    """Return ``message`` with its signature; unchanged when ``key`` is empty."""
    return message.model_copy(update={"signature": _signature(message, key)}) if key else message


def verify(message: InnerLoopJob | ShardResult, key: str) -> None:
    """Check a signature. If ``key`` is empty, every message passes.

    Raises:
        SignatureError: the message is unsigned, or signed with another key.
    """
    if not key:
        return
    # compare bytes: for non-ASCII strings compare_digest raises TypeError
    if not hmac.compare_digest(message.signature.encode(), _signature(message, key).encode()):
        what = "has a wrong signature" if message.signature else "is not signed"
        raise SignatureError(
            f"a {type(message).__name__} for run={message.run} step={message.step} {what}; "
            "set the same METAFLEET_SIGNING_KEY on orchestrator and workers"
        )


def _signature(message: InnerLoopJob | ShardResult, key: str) -> str:
    wire = message.to_wire()
    del wire["signature"]
    text = json.dumps(wire, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
