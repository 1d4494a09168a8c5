"""What others put under keys of ours: found by its type, and dropped."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from metafleet.contracts.connections import Client
from metafleet.contracts.lua_scripts import lua_script

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
    for key, kind in types.items():
        pipeline.eval(lua_script("drop_other_type"), 1, key, kind)
    found = {key: kind.decode() for key, kind in zip(types, pipeline.execute(), strict=True)}
    return {key: kind for key, kind in found.items() if kind}


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
        if len(parts) == of and all(map(_is_number, parts)):
            ours.add(tuple(map(int, parts)))
        else:
            foreign.append(field)
    if foreign:
        log.warning("dropped %d fields of %s, such as %.80r", len(foreign), key, foreign[0])
        client.hdel(key, *foreign)
    return ours, len(foreign)


def drop_unless_below(client: Client, key: str, found: bytes | None, *, limit: int) -> bool:
    """Delete a number of ours that cannot be: one that is not below ``limit``, or no number.

    Args:
        client: of the server.
        key: of the number.
        found: what was found there; None for nothing.
        limit: what ours is below.

    Returns:
        True when it was deleted.
    """
    if found is None or (_is_number(found) and int(found) < limit):
        return False
    log.warning("dropped %.80r from %s; expected a number below %d", found, key, limit)
    client.delete(key)
    return True


def _is_number(part: bytes) -> bool:
    """Return whether these are the digits of a number as we write it: "3", never "03"."""
    return part.isdigit() and len(part) <= _MOST_DIGITS and part == b"%d" % int(part)
