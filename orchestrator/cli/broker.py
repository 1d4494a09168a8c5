"""Opens the broker for commands that reach the fleet."""

from collections.abc import Iterator
from contextlib import contextmanager

from metafleet.contracts.connections import Client, connect, redis_errors, require_broker_url
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError


@contextmanager
def open_broker(settings: Settings) -> Iterator[Client]:
    """Connect to the broker and ping it; convert its errors to errors of Metafleet."""
    url = require_broker_url(settings)
    with redis_errors(url), connect(url) as client:
        client.ping()
        yield client


def require_broker(settings: Settings) -> None:
    """Check that the broker answers, before anything is recorded."""
    with open_broker(settings):
        return


def require_fleet(settings: Settings) -> None:
    """Check that the broker answers.

    Raises:
        ConfigError: no broker is configured.
    """
    if not settings.broker_url:
        raise ConfigError(
            "no Redis is configured: start `metafleet up` in another terminal, set "
            "METAFLEET_BROKER_URL, or give --in-process to compute here without a fleet"
        )
    require_broker(settings)
