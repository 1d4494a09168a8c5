"""Redis clients with timeouts on every call, and translation of Redis errors into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from metafleet.contracts.refusals import ADD_PASSWORD, refusal
from metafleet.contracts.settings import Settings
from metafleet.errors import BrokerUnavailableError, ConfigError
from metafleet.passwords import redact_url

SOCKET_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
_NO_PASSWORD = ("HELLO must be called", "Authentication required")
_OF_ANOTHER_ROLE = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MovedError,
)
"""After a failover the name may resolve to another server, so reconnect on these errors."""
Client = redis.Redis


def require_broker_url(settings: Settings) -> str:
    """Return the broker's URL.

    Raises:
        ConfigError: no broker is configured and no embedded stack is running.
    """
    if not settings.broker_url:
        raise ConfigError(
            "no Redis is configured: start `metafleet up` in another terminal, "
            "or set METAFLEET_BROKER_URL=redis://:password@host:6379/0"
        )
    return settings.broker_url


def connect(url: str, *, socket_timeout_s: float = SOCKET_TIMEOUT_S, retries: int = 1) -> Client:
    """Return a client that connects on first use, and retries once if a connection is stale.

    Raises:
        ConfigError: ``url`` is not a Redis URL.
    """
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=socket_timeout_s,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=15,
            # a timeout is not retried here: each retry would wait that long again
            retry=Retry(
                ExponentialBackoff(cap=0.5, base=0.05),
                retries,
                supported_errors=(redis.exceptions.ConnectionError, *_OF_ANOTHER_ROLE),
            ),
        )
    except ValueError as error:
        if str(error).startswith("Port out of range"):
            raise ConfigError(
                f"{redact_url(url)!r} names a port that is out of range; expected 1 to 65535"
            ) from None
        # the cause is left out: it quotes the text before the first "/", which may be part of a
        # password that contains one
        raise ConfigError(
            f"{redact_url(url)!r} is not a Redis URL; expected redis://:password@host:port/0 or "
            "rediss://..., special characters of the password percent-encoded"
        ) from None


@contextmanager
def redis_errors(url: str) -> Iterator[None]:
    """Turn Redis's errors into one-line errors that name the server and the remedy."""
    shown = redact_url(url)
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        if any(words in str(error) for words in _NO_PASSWORD):
            raise ConfigError(f"Redis at {shown} wants a password; {ADD_PASSWORD}") from error
        raise ConfigError(
            f"Redis at {shown} refused the password ({error}); check the password in its URL"
        ) from error
    except redis.exceptions.TimeoutError as error:
        raise BrokerUnavailableError(
            f"Redis at {shown} does not answer ({error}); is it overloaded or frozen?"
        ) from error
    except redis.exceptions.BusyLoadingError as error:
        raise refusal(shown, error) from error
    except redis.exceptions.ConnectionError as error:
        raise BrokerUnavailableError(
            f"Redis at {shown} cannot be reached ({error}); is it running?"
        ) from error
    except redis.exceptions.ResponseError as error:
        raise refusal(shown, error) from error


@contextmanager
def open_broker(settings: Settings) -> Iterator[Client]:
    """Connect to the broker and ping it; convert its errors to errors of Metafleet."""
    url = require_broker_url(settings)
    with redis_errors(url), connect(url) as client:
        client.ping()
        yield client
