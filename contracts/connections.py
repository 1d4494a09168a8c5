"""Redis clients with time-outs everywhere, and Redis errors in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from metafleet.contracts.refusals import ADD_PASSWORD, refusal
from metafleet.contracts.settings import Settings, redact_url
from metafleet.errors import BrokerUnavailableError, ConfigError

SOCKET_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
_NO_PASSWORD = ("HELLO must be called", "Authentication required")
_OF_ANOTHER_ROLE = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MovedError,
)
"""After a failover the name may lead to another server: so the connection is made again."""
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
    """Make a client; connects on first use. One retry hides a connection that went stale.

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
            # a time-out is not tried again here: each try would wait as long once more
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
        # the cause is kept out: it quotes what stands before the first "/", part of a password that
        # holds one
        raise ConfigError(
            f"{redact_url(url)!r} is not a Redis URL; expected redis://:password@host:port/0 or "
            "rediss://..., special characters of the password percent-encoded"
        ) from None


@contextmanager
def redis_errors(url: str) -> Iterator[None]:
    """Turn Redis's errors into ours: one line that names the server and the remedy."""
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
