"""Redis's errors in our words: which server, what is wrong, what to do; never the password."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from metafleet.contracts.connections import connect, redis_errors, require_broker_url
from metafleet.contracts.settings import Settings
from metafleet.errors import BrokerUnavailableError, ConfigError, MetafleetError

URL = "redis://:geheim@redis.example:6379/0"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (redis.AuthenticationError("WRONGPASS"), ConfigError, "refused the password"),
        (
            redis.AuthenticationError("HELLO must be called with the client already authenticated"),
            ConfigError,
            "wants a password; put it into the URL",
        ),
        (redis.ResponseError("NOAUTH Authentication required"), ConfigError, "wants a password"),
        (redis.TimeoutError("timed out"), BrokerUnavailableError, "does not answer"),
        (redis.OutOfMemoryError("used > max"), BrokerUnavailableError, "raise its maxmemory"),
        (redis.ConnectionError("refused"), BrokerUnavailableError, "cannot be reached"),
        (redis.BusyLoadingError("loading"), BrokerUnavailableError, "is loading its data"),
    ],
)
def test_an_error_of_redis_names_the_server_and_the_remedy(
    raised: Exception, expected: type[MetafleetError], words: str
) -> None:
    with pytest.raises(expected) as caught, redis_errors(URL):
        raise raised

    assert "redis://:***@redis.example:6379/0" in str(caught.value)
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is raised


def test_a_port_out_of_range_is_said_to_be() -> None:
    with pytest.raises(ConfigError, match="names a port that is out of range") as caught:
        connect("redis://:geheim@redis.example:99999/0")

    assert "geheim" not in str(caught.value)


def test_a_closed_port_is_reported_in_one_line(closed_port: int) -> None:
    url = f"redis://127.0.0.1:{closed_port}/0"

    with pytest.raises(BrokerUnavailableError, match="is it running") as caught, redis_errors(url):
        connect(url, retries=0).ping()

    assert "\n" not in str(caught.value)


def test_a_server_that_never_answers_is_given_up(silent_port: int) -> None:
    url = f"redis://127.0.0.1:{silent_port}/0"

    with pytest.raises(BrokerUnavailableError, match="frozen"), redis_errors(url):
        connect(url, socket_timeout_s=0.05, retries=0).ping()


@pytest.mark.parametrize(
    "url",
    [
        "http://:geheim@host/0",
        "host:6379",
        "",
        "redis://:geheim@host:port/0",
        "redis://:geheim@host/0?db=x",
        "redis://:geheim/wort@host:6379/0",
        "redis://:geheim#wort@host:6379/0",
        "redis://:geheim?wort@host:6379/0",
    ],
)
def test_an_invalid_url_is_refused_without_any_part_of_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a Redis URL") as caught:
        connect(url)

    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_every_client_has_timeouts() -> None:
    options = connect(URL).connection_pool.connection_kwargs

    assert 0 < options["socket_connect_timeout"] <= options["socket_timeout"] <= 10


def test_no_broker_is_said_with_both_ways_to_get_one(tmp_path: Path) -> None:
    settings = Settings.load({"METAFLEET_HOME": str(tmp_path)})

    with pytest.raises(ConfigError, match=r"`metafleet up` .* METAFLEET_BROKER_URL"):
        require_broker_url(settings)
