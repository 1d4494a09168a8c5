"""An engine for work outside a run's own steps, which leaves nothing in Redis."""

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from metafleet.contracts.connections import connect, redis_errors, require_broker_url
from metafleet.contracts.keys import RunKeys
from metafleet.errors import BrokerUnavailableError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.dispatchers import open_dispatcher
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.step import Dispatcher

log = logging.getLogger(__name__)


@contextmanager
def open_scratch(
    context: RunContext, config: ExperimentConfig, *, stream: str
) -> Iterator[Dispatcher]:
    """Open an engine under a unique run name, which no other process can claim.

    Args:
        context: context of the real run, for which the engine measures or compiles.
        config: configuration of the experiment.
        stream: the only stream (named sequence of steps) for which the engine is used.
    """
    name = f"{context.run}-{stream}-{uuid.uuid4().hex[:8]}"
    epochs: list[int] = []

    def next_epoch(beyond: int) -> int:
        epochs.append(beyond + 1)
        return epochs[-1]

    dispatcher = open_dispatcher(replace(context, run=name), config, next_epoch=next_epoch)
    try:
        yield dispatcher
    finally:
        dispatcher.close()
        if not context.in_process:
            _forget(require_broker_url(context.settings), RunKeys(name), stream, epochs)


def _forget(url: str, keys: RunKeys, stream: str, epochs: Sequence[int]) -> None:
    """Delete keys that outlive a step; without the epoch, late results are dropped as stale."""
    try:
        with redis_errors(url), connect(url) as client:
            closed = [keys.closed(stream, epoch=epoch) for epoch in epochs]
            client.delete(keys.epoch, keys.holder, *closed)
    except BrokerUnavailableError as error:
        log.warning("keys of %s will have to expire: %s", keys.run, error)
