"""Finds and drops data that other programs put under our keys."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from metafleet.contracts.connections import Client
from metafleet.contracts.lua_scripts import lua_script

log = logging.getLogger(__name__)

_MOST_DIGITS: Final = 9


def drop_foreign(client: Client, types: Mapping[str, str]) -> dict[str, str]:
    """Delete keys whose value does not have the type of our values.

    Args:
        client: client of the server.
        types: key -> the type of our values, as the Redis command TYPE names it.

    Returns:
        Key -> the type of the deleted value.
    """
    pipeline = client.pipeline(transaction=False)
    for key, kind in types.items():
        pipeline.eval(lua_script("drop_other_type"), 1, key, kind)
    found = {key: kind.decode() for key, kind in zip(types, pipeline.execute(), strict=True)}
    return {key: kind for key, kind in found.items() if kind}


def take_numbers(
    client: Client, key: str, fields: Sequence[bytes], *, of: int
) -> tuple[set[tuple[int, ...]], int]:
    """Parse the fields of one of our hashes. Delete fields that do not have our form.

    Args:
        client: client of the server.
        key: key of the hash.
        fields: the fields that were read from the hash.
        of: how many numbers, separated by colons, a valid field contains.

    Returns:
        Two things: the numbers in each valid field, and the number of deleted fields.
    """
    ours: set[tuple[int, ...]] = set()
    foreign: list[bytes] = []
    for field in fields:
        parts = field.split(b":")
        if len(parts) == of and all(map(_is_number, parts)):
            ours.add(tuple(map(int, parts)))
        else:
            foreign.append(field)
    if foreign:
        log.warning("dropped %d fields of %s, such as %.80r", len(foreign), key, foreign[0])
        client.hdel(key, *foreign)
    return ours, len(foreign)


def drop_unless_below(client: Client, key: str, found: bytes | None, *, limit: int) -> bool:
    """Delete an impossible value: one that is not a number below ``limit``.

    Args:
        client: client of the server.
        key: key of the number.
        found: the value that was read; None if there is none.
        limit: upper bound of valid numbers, exclusive.

    Returns:
        True if the value was deleted.
    """
    if found is None or (_is_number(found) and int(found) < limit):
        return False
    log.warning("dropped %.80r from %s; expected a number below %d", found, key, limit)
    client.delete(key)
    return True


def _is_number(part: bytes) -> bool:
    """Return whether the bytes are a number as we write it: "3", never "03"."""
    return part.isdigit() and len(part) <= _MOST_DIGITS and part == b"%d" % int(part)
