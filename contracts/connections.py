"""Redis clients with time-outs everywhere, and Redis errors in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from contracts.settings import Settings, redact_url
from metafleet.errors import (
    BrokerUnavailableError,
    ConfigError,
    FleetError,
    MetafleetError,
)

SOCKET_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
_NO_PASSWORD = ("HELLO must be called", "Authentication required")
_ADD_PASSWORD = "put it into the URL: redis://:password@host:port/0"
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
                supported_errors=(redis.exceptions.ConnectionError,),
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
            raise ConfigError(f"Redis at {shown} wants a password; {_ADD_PASSWORD}") from error
        raise ConfigError(
            f"Redis at {shown} refused the password ({error}); check the password in its URL"
        ) from error
    except redis.exceptions.TimeoutError as error:
        raise BrokerUnavailableError(
            f"Redis at {shown} does not answer ({error}); is it overloaded or frozen?"
        ) from error
    except redis.exceptions.OutOfMemoryError as error:
        raise BrokerUnavailableError(
            f"Redis at {shown} is out of memory ({error}); raise its maxmemory"
        ) from error
    except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError) as error:
        raise BrokerUnavailableError(
            f"Redis at {shown} cannot be reached ({error}); is it running?"
        ) from error
    except redis.exceptions.ResponseError as error:
        raise _refusal(shown, error) from error


def _refusal(shown: str, error: redis.exceptions.ResponseError) -> MetafleetError:
    """Tell what a server's refusal means: wrong settings, a passing state, or neither."""
    code = str(error).partition(" ")[0]
    if code in ("NOAUTH", "WRONGPASS"):
        return ConfigError(f"Redis at {shown} wants a password ({error}); {_ADD_PASSWORD}")
    if code == "NOPERM":
        return ConfigError(
            f"Redis at {shown} forbids its user a command ({error}); allow it all commands on keys "
            "that begin with mf:"
        )
    if code in ("READONLY", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"):
        return BrokerUnavailableError(f"Redis at {shown} takes no writes now ({error})")
    return FleetError(f"Redis at {shown} refused a command ({error}); is it 6.2 or newer?")
