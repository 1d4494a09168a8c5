"""An engine for work beside a run's own, which leaves nothing in Redis behind it."""

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from metafleet.contracts.connections import connect, redis_errors, require_broker_url
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.settings import Settings
from metafleet.errors import BrokerUnavailableError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.engine.dispatchers import open_dispatcher
from metafleet.orchestrator.engine.step import Dispatcher

log = logging.getLogger(__name__)


@contextmanager
def open_scratch(  # noqa: PLR0913 - the seams of a dispatcher
    settings: Settings,
    config: ExperimentConfig,
    run: str,
    *,
    stream: str,
    in_process: bool,
    notify: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> Iterator[Dispatcher]:
    """Open an engine under a name of its own: nobody can contend for it.

    Args:
        settings: where broker and data are.
        config: the experiment.
        run: uid of the run it is for.
        stream: the one stream it is used for.
        in_process: compute here.
        notify: told what a person should know.
        check: called while something is waited for; raises to end it.
    """
    name = f"{run}-{stream}-{uuid.uuid4().hex[:8]}"
    epochs: list[int] = []

    def next_epoch(beyond: int) -> int:
        epochs.append(beyond + 1)
        return epochs[-1]

    dispatcher = open_dispatcher(
        settings,
        config,
        name,
        in_process=in_process,
        next_epoch=next_epoch,
        notify=notify,
        check=check,
    )
    try:
        yield dispatcher
    finally:
        dispatcher.close()
        if not in_process:
            _forget(require_broker_url(settings), RunKeys(name), stream, epochs)


def _forget(url: str, keys: RunKeys, stream: str, epochs: Sequence[int]) -> None:
    """Delete what outlives a step; without the epoch, whatever comes late is dropped as stale."""
    try:
        with redis_errors(url), connect(url) as client:
            closed = [keys.closed(stream, epoch=epoch) for epoch in epochs]
            client.delete(keys.epoch, keys.holder, *closed)
    except BrokerUnavailableError as error:
        log.warning("keys of %s will have to expire: %s", keys.run, error)
