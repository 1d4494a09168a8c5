"""Waits for the results of several open steps at once."""

from collections.abc import Iterator, Sequence
from typing import Final

from metafleet.contracts.connections import Client
from metafleet.contracts.job import ShardResult
from metafleet.orchestrator.engine.open_step import OpenStep

_MOST_REPLIES: Final = 256


def wait_for_results(
    client: Client, steps: Sequence[OpenStep], timeout_s: float
) -> Iterator[tuple[OpenStep, ShardResult]]:
    """Wait until one of ``steps`` has results, then yield all valid results.

    ``steps`` can be empty. A call that fails because of Redis is repeated. The failed call may
    already have removed results from Redis.
    """
    if not steps:
        return
    by_key = {step.replies.encode(): step for step in steps}
    pipeline = client.pipeline(transaction=False)  # in a transaction BLPOP would not wait
    pipeline.blpop([step.replies for step in steps], timeout=timeout_s)
    for step in steps:
        pipeline.lpop(step.replies, _MOST_REPLIES)
    first, *more = pipeline.execute()
    if first is not None:
        key, raw = first
        yield from ((by_key[key], result) for result in by_key[key].parse(raw))
    for step, raws in zip(steps, more, strict=True):
        for raw in raws or ():
            yield from ((step, result) for result in step.parse(raw))
