"""Connections that are cut, slow, or silently dead; an unreachable database."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from metafleet.errors import DatabaseUnavailableError
from metafleet.orchestrator.recording import recorder
from metafleet.orchestrator.recording.recorder import Recorder, RecorderLimits
from tests.fleet import Fleet, open_fleet, wait_until
from tests.postgres import PostgresServer
from tests.redis_server import RedisServer
from tests.running import Running
from tests.runs import config, undisturbed
from tests.tcp_proxy import TcpProxy

DEFAULT = RecorderLimits()
REFUSALS_IN_30_S = 10
"""After 0, 0.2, 0.6, 1.4, 3, 6.2, 11.2, 16.2, 21.2 and 26.2 s, with the default limits."""


def count_refusals(monkeypatch: pytest.MonkeyPatch) -> list[DatabaseUnavailableError]:
    """A list that grows whenever a recorder finds no database."""
    refused: list[DatabaseUnavailableError] = []
    note_away = Recorder._note_away

    def note(self: Recorder, error: DatabaseUnavailableError) -> None:
        refused.append(error)
        note_away(self, error)

    monkeypatch.setattr(Recorder, "_note_away", note)
    return refused


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[TcpProxy]:
    proxy = TcpProxy(redis_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def far_fleet(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, proxy: TcpProxy
) -> Iterator[Fleet]:
    """Two workers and an orchestrator that all reach Redis through the proxy."""
    url = redis_server.url.replace(f":{redis_server.port}/", f":{proxy.port}/")
    with open_fleet(tmp_path_factory.mktemp("far") / "home", url) as fleet:
        fleet.start(2)
        yield fleet


def test_connections_cut(far_fleet: Fleet, proxy: TcpProxy, expected: str) -> None:
    running = Running(far_fleet.settings)

    running.disturb(proxy.cut)

    running.assert_undisturbed(expected, "every TCP connection cut", "connected again, went on")


def test_connections_delayed(far_fleet: Fleet, proxy: TcpProxy, expected: str) -> None:
    running = Running(far_fleet.settings)

    def slow_down() -> None:
        proxy.delay_s = 0.05

    running.disturb(slow_down)
    running.wait_for_step(5)
    proxy.delay_s = 0.0

    running.assert_undisturbed(expected, "every packet 50 ms late", "slower, nothing lost")


def test_connections_half_open(far_fleet: Fleet, proxy: TcpProxy, expected: str) -> None:
    running = Running(far_fleet.settings)

    def silence() -> None:
        proxy.is_silent = True

    running.disturb(silence)
    wait_until(lambda: running.watcher.notices, "the notice that Redis does not answer", 40)
    proxy.is_silent = False
    proxy.cut()

    running.assert_undisturbed(expected, "connections half open", "timed out, connected again")
    recovered_s = running.recovered_s()
    assert recovered_s is not None and recovered_s < 60


def test_the_database_away_during_a_run(
    fleet: Fleet,
    postgres: PostgresServer,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # what 30 s are to the code is how often it asks in vain, up to its longest pause and beyond it:
    # here in a twentieth of the time, with room for so few rows that they outgrow the memory
    limits = RecorderLimits(
        max_rows=DEFAULT.max_rows // 200,
        linger_s=DEFAULT.linger_s / 20,
        first_retry_s=DEFAULT.first_retry_s / 20,
        last_retry_s=DEFAULT.last_retry_s / 20,
    )
    monkeypatch.setattr(recorder, "RecorderLimits", lambda: limits)
    refused = count_refusals(monkeypatch)
    # so many steps that the database is back long before the last: a run that ends without one
    # leaves its rows in a file
    experiment = config(outer={"steps": 120}, validation={"every": 0}, test={"baselines": False})
    expected = undisturbed(fleet.settings, experiment)
    fleet.start(2)
    running = Running(replace(fleet.settings, database_url=postgres_url), experiment)

    def stop_and_go_on() -> None:
        postgres.kill()
        steps = len(running.watcher.steps)
        try:
            # past the next checkpoint, whose flush finds no database: rows wait, steps go on
            running.wait_for_step(steps + 6)
            wait_until(lambda: len(refused) >= REFUSALS_IN_30_S, "as many refusals as in 30 s")
            assert not running.has_ended
        finally:
            postgres.start()

    running.disturb(stop_and_go_on)

    running.assert_undisturbed(
        expected, "database down, asked as in 30 s", "trained on, rows written once", steps=120
    )
