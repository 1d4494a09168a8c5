"""What makes one of several open steps fail is kept for the caller that waits for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from metafleet.errors import BlobMissingError, FleetError, NumericsError
from metafleet.orchestrator.engine.open_step import OpenStep


@contextmanager
def failing(step: OpenStep) -> Iterator[None]:
    """Keep what makes ``step`` fail: other steps go on."""
    try:
        yield
    except (NumericsError, BlobMissingError, FleetError) as error:
        step.failure = error
