"""What others put under keys of ours: found by its type, and dropped."""

from collections.abc import Mapping

from contracts.connections import Client


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
