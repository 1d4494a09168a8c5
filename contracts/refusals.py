"""Explains why a Redis server refused a command: a temporary state or wrong settings."""

import re
from typing import Final

import redis

from metafleet.errors import (
    BrokerUnavailableError,
    ConfigError,
    FleetError,
    ForeignDataError,
    MetafleetError,
)

ADD_PASSWORD: Final = "put it into the URL: redis://:password@host:port/0"

PASSING: Final = {
    "ASK": "is moving our keys to another node; wait for the end of it",
    "BUSY": "is busy with somebody's script; wait for its end, or end it by SCRIPT KILL",
    "CLUSTERDOWN": "belongs to a cluster that is down; bring its other nodes back",
    "EXECABORT": "gave a transaction up; look at the server's log if it goes on",
    "LOADING": "is loading its data; wait for the end of it",
    "MASTERDOWN": "is a replica that has lost its primary; bring that back, or promote this one",
    "MISCONF": "cannot save its data and takes no writes; make room on its disk",
    "MOVED": "has given our keys to another node; name that one in the URL if it stays so",
    "NOREPLICAS": "has fewer replicas than it needs to take writes; bring them back",
    "OOM": "is out of memory; raise its maxmemory",
    "READONLY": "is a replica and takes no writes; name the primary in the URL if it stays so",
    "TRYAGAIN": "is moving our keys to another node; wait for the end of it",
    "UNBLOCKED": "broke a wait off, as at a change of role; it is asked again",
}
"""Codes of temporary refusals, each with the state of the server and the remedy."""

_BY_CLASS: Final[dict[type[Exception], str]] = {
    # subclasses first
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.ExecAbortError: "EXECABORT",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.TryAgainError: "TRYAGAIN",
}
# redis-py leaves codes without a class in the text, after the prefix that a pipeline adds; Redis
# 6.2 puts the codes of a script's commands after a prefix of its own
_CODE: Final = re.compile(r"(?:^|caused error: )([A-Z]{2,})\b")
_CODE_IN_SCRIPT: Final = re.compile(r"\bError (?:running|executing) (?:the )?script.*: -([A-Z]+) ")


def code_of(error: Exception) -> str:
    """Return the code of a server's refusal, like "READONLY"; "" if it has no known code."""
    for kind, code in _BY_CLASS.items():
        if isinstance(error, kind):
            return code
    text = str(error)
    found = _CODE_IN_SCRIPT.search(text) or _CODE.search(text)
    return found[1] if found is not None else ""


def refusal(shown: str, error: Exception) -> MetafleetError:
    """Return our error for a refusal of the server at ``shown``, with the remedy."""
    code = code_of(error)
    if code in PASSING:
        state, _, remedy = PASSING[code].partition("; ")
        text = str(error).removeprefix(f"{code} ")
        return BrokerUnavailableError(f"Redis at {shown} {state} ({code}: {text}); {remedy}")
    if code in ("NOAUTH", "WRONGPASS"):
        return ConfigError(f"Redis at {shown} wants a password ({error}); {ADD_PASSWORD}")
    if code == "NOPERM":
        return ConfigError(
            f"Redis at {shown} forbids its user a command (NOPERM: {error}); allow it all commands "
            "and channels, on keys that begin with mf:"
        )
    if code == "WRONGTYPE":
        return ForeignDataError(
            f"Redis at {shown} holds under a key of ours what is not ours ({error}); let no one "
            "else write to keys that begin with mf:"
        )
    return FleetError(f"Redis at {shown} refused a command ({error}); is it 6.2 or newer?")
