"""What others put under keys of ours: found by its type, and dropped."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from metafleet.contracts.connections import Client

log = logging.getLogger(__name__)

_MOST_DIGITS: Final = 9


def drop_foreign(client: Client, types: Mapping[str, str]) -> dict[str, str]:
    """Delete keys that hold something of another type than ours would be.

    Args:
        client: of the server.
        types: the type that each key has when it is there, as the command TYPE names it.

    Returns:
        Key -> the type that was found and dropped.
    """
    pipeline = client.pipeline(transaction=False)
    for key in types:
        pipeline.type(key)
    found = {key: kind.decode() for key, kind in zip(types, pipeline.execute(), strict=True)}
    foreign = {key: kind for key, kind in found.items() if kind not in ("none", types[key])}
    if foreign:
        client.delete(*foreign)
    return foreign


def take_numbers(
    client: Client, key: str, fields: Sequence[bytes], *, of: int
) -> tuple[set[tuple[int, ...]], int]:
    """Read fields of a hash of ours; fields of another form are deleted from it.

    Args:
        client: of the server.
        key: of the hash.
        fields: what was found there.
        of: how many numbers a field of ours is, with colons between them.

    Returns:
        The numbers of each field of ours, and how many fields were not.
    """
    ours: set[tuple[int, ...]] = set()
    foreign: list[bytes] = []
    for field in fields:
        parts = field.split(b":")
        if len(parts) == of and all(p.isdigit() and len(p) <= _MOST_DIGITS for p in parts):
            ours.add(tuple(map(int, parts)))
        else:
            foreign.append(field)
    if foreign:
        log.warning("dropped %d fields of %s, such as %.80r", len(foreign), key, foreign[0])
        client.hdel(key, *foreign)
    return ours, len(foreign)
