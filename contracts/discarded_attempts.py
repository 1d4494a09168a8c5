"""Attempts that workers dropped or finished late, as noted in the ledger."""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

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
_TIMES: Final = re.compile(
    " ".join(
        ["(?P<worker>.*)", *(f"(?P<{name}>[0-9]{{1,17}})" for name in ("sent", "begun", "ended"))]
    )
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
        sent_us: when the attempt was sent, in microseconds of Redis's clock; None if unknown.
        queue_wait_s: seconds from sending until a worker began the attempt, or refused to begin it;
            NaN if unknown.
        compute_s: seconds from begin to end; NaN if unknown, or if the attempt never began.
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
    sent_us: int | None = None
    queue_wait_s: float = math.nan
    compute_s: float = math.nan


def parse_discarded(flat: Sequence[bytes]) -> tuple[DiscardedAttempt, ...]:
    """Parse the hash of discarded attempts, given in the order field, value, field, value, ...

    The field "stream:epoch:step:shard:attempt:outcome:reason" describes one attempt. Its value is
    "worker sent begun ended", with times in microseconds. The time "begun" is 0 if the attempt did
    not begin. Workers of earlier versions write no times. The field "stream:outcome:reason"
    describes several attempts, and its value is their number.
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
        worker, times = _split_times(value.replace("\0", ""))
        found = DiscardedAttempt(stream, outcome, reason, epoch, step, shard, attempt, worker)
        return replace(found, **times)
    if (several := _SEVERAL.fullmatch(field)) is not None and re.fullmatch(r"[0-9]{1,9}", value):
        return DiscardedAttempt(
            several["stream"], several["outcome"], several["reason"], n=int(value)
        )
    return None


def _split_times(value: str) -> tuple[str, dict[str, Any]]:
    """Return the worker and the fields of times; no fields if the note has no times."""
    if (found := _TIMES.fullmatch(value)) is None:
        return value, {}
    sent_us, begun_us, ended_us = (int(found[name]) for name in ("sent", "begun", "ended"))
    read_us = begun_us or ended_us
    times = {"sent_us": sent_us, "queue_wait_s": max(0, read_us - sent_us) / 1e6}
    if begun_us:
        times["compute_s"] = max(0, ended_us - begun_us) / 1e6
    return found["worker"], times
