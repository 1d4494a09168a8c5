"""Checks the broker for commands that reach the fleet."""

from metafleet.contracts.connections import open_broker
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError


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
