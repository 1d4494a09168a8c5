"""The log lines of attempts, on their way from a worker to the orchestrator.

A worker puts the lines of an attempt into a hash in Redis. The orchestrator takes them from there
when it records the attempt.
"""

import logging
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

MOST_LOGS: Final = 1000
"""Maximum number of attempts whose lines wait in Redis. The lines of further attempts are lost."""

MOST_CHARACTERS: Final = 32_768
"""Maximum length of an attempt's lines. Of longer ones, the end is kept."""

_MOST_BYTES: Final = 4 * MOST_CHARACTERS + 1024
_NUMBERS: Final = ("epoch", "step", "shard", "attempt")
_NAME: Final = re.compile(
    ":".join([r"(?P<stream>[A-Za-z0-9_.-]{1,64})", *(f"(?P<{n}>[0-9]{{1,9}})" for n in _NUMBERS)])
)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """The last log lines of one attempt; ``attempt`` counts from 0, ``worker`` is "host:pid"."""

    stream: str
    epoch: int
    step: int
    shard: int
    attempt: int
    worker: str
    text: str


def pack_log(worker: str, text: str) -> bytes:
    """Compress the lines of an attempt. Of lines that are too long in all, the end is kept."""
    if len(text) > MOST_CHARACTERS:
        left_out = len(text) - MOST_CHARACTERS
        text = f"... {left_out} earlier characters left out\n{text[-MOST_CHARACTERS:]}"
    return zlib.compress(f"{worker}\n{text}".encode(errors="backslashreplace"))


def parse_logs(flat: Sequence[bytes]) -> tuple[AttemptLog, ...]:
    """Parse the hash of logs, given in the order field, value, field, value, ...

    The field is "stream:epoch:step:shard:attempt". Control characters, which could change the
    terminal that shows the lines, are replaced. Entries that workers do not write are dropped.
    """
    found = [_parse(field, value) for field, value in zip(flat[::2], flat[1::2], strict=True)]
    sound = tuple(each for each in found if each is not None)
    if len(sound) < len(found):
        log.warning("dropped %d logs in a form that workers do not write", len(found) - len(sound))
    return sound


def _parse(field: bytes, value: bytes) -> AttemptLog | None:
    name = _NAME.fullmatch(field.decode(errors="replace"))
    if name is None:
        return None
    try:
        # the length is limited: a few bytes can expand to gigabytes
        text = zlib.decompressobj().decompress(value, _MOST_BYTES).decode(errors="replace")
    except zlib.error:
        return None
    worker, _, lines = text.partition("\n")
    epoch, step, shard, attempt = (int(name[part]) for part in _NUMBERS)
    worker, lines = _CONTROLS.sub("?", worker)[:255], _CONTROLS.sub("?", lines)
    return AttemptLog(name["stream"], epoch, step, shard, attempt, worker, lines)
