"""Names of shards in messages. Commands that only read records import this quickly."""

from collections.abc import Sequence
from typing import Final

_MOST_NAMED: Final = 8


def name_shards(shards: Sequence[int]) -> str:
    """Return a short list of shards: "shard 3", "shards 3, 7", "shards 3, 7, ... (20)"."""
    named = ", ".join(map(str, shards[:_MOST_NAMED]))
    more = f", ... ({len(shards)})" if len(shards) > _MOST_NAMED else ""
    return f"shard{'' if len(shards) == 1 else 's'} {named}{more}"
