"""Attempts that workers dropped or finished late, as noted in the ledger."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

MOST_DISCARDED: Final = 1000
"""Attempts noted one by one until the orchestrator reads them. Further ones are only counted."""

_LONGEST_NAME: Final = 300
_NUMBERS: Final = ("epoch", "step", "shard", "attempt")
_STREAM: Final = r"(?P<stream>[A-Za-z0-9_.-]{1,64})"
_WHY: Final = r"(?P<outcome>late|cancelled|unneeded):(?P<reason>stale|closed|done|taken|unwanted)"
_ONE: Final = re.compile(
    ":".join([_STREAM, *(f"(?P<{name}>[0-9]{{1,9}})" for name in _NUMBERS), _WHY])
)
_SEVERAL: Final = re.compile(f"{_STREAM}:{_WHY}")


@dataclass(frozen=True, slots=True)
class DiscardedAttempt:
    """One discarded attempt, or several that were too many to record one by one.

    Attributes:
        stream, epoch, step, shard, attempt: identify the attempt. For several attempts, all but the
            stream are None.
        outcome: "late", "cancelled" or "unneeded".
        reason: "stale" (from an old epoch), "closed" (its step is closed), "done" (its shard is
            done), "taken" (its message came twice) or "unwanted".
        worker: "host:pid"; "" for several attempts.
        n: number of attempts.
    """

    stream: str
    outcome: str
    reason: str
    epoch: int | None = None
    step: int | None = None
    shard: int | None = None
    attempt: int | None = None
    worker: str = ""
    n: int = 1


def parse_discarded(flat: Sequence[bytes]) -> tuple[DiscardedAttempt, ...]:
    """Parse the hash of discarded attempts, given in the order field, value, field, value, ...

    The field "stream:epoch:step:shard:attempt:outcome:reason" describes one attempt, and the value
    of this field is the worker. The field "stream:outcome:reason" describes several attempts, and
    the value of this field is the number of attempts.
    """
    texts = [text.decode(errors="replace") for text in flat]
    found = [_parse(field, value) for field, value in zip(texts[::2], texts[1::2], strict=True)]
    sound = tuple(each for each in found if each is not None)
    if len(sound) < len(found):
        log.warning("dropped %d notes in a form that workers do not write", len(found) - len(sound))
    return sound


def _parse(field: str, value: str) -> DiscardedAttempt | None:
    """Parse one note; None if it does not have the form that workers write."""
    if (one := _ONE.fullmatch(field)) is not None and len(value) <= _LONGEST_NAME:
        stream, outcome, reason = one["stream"], one["outcome"], one["reason"]
        epoch, step, shard, attempt = (int(one[name]) for name in _NUMBERS)
        worker = value.replace("\0", "")
        return DiscardedAttempt(stream, outcome, reason, epoch, step, shard, attempt, worker=worker)
    if (several := _SEVERAL.fullmatch(field)) is not None and re.fullmatch(r"[0-9]{1,9}", value):
        return DiscardedAttempt(
            several["stream"], several["outcome"], several["reason"], n=int(value)
        )
    return None
