"""The exporter over a real fleet and a real database, which come and go."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import DEMAND
from metafleet.contracts.settings import Settings, orchestrator_environment
from metafleet.db.engine import upgrade
from metafleet.orchestrator.monitoring.monitor import Monitor
from tests.fleet import ROOT, Fleet, wait_until
from tests.postgres import PostgresServer
from tests.redis_server import RedisServer
from tests.running import EXPERIMENT, Running
from tests.runs import execute, new_run


@contextmanager
def exporter_of(settings: Settings) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `metafleet exporter` on a free port; yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", "exporter", "--port", "0"],
        env=orchestrator_environment(settings),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+(?=/metrics)", process.stderr.readline())
        assert found is not None
        yield found[0], process
    finally:
        process.kill()
        process.wait()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def value(text: str, metric: str) -> float | None:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", text, flags=re.MULTILINE)
    return None if found is None else float(found[1])


def test_a_run_is_seen_while_it_runs_and_counted_after(fleet: Fleet, database_url: str) -> None:
    fleet.settings = replace(fleet.settings, database_url=database_url)
    fleet.start(2)
    with exporter_of(fleet.settings) as (url, process):
        running = Running(fleet.settings, EXPERIMENT)
        running.wait_for_step(2)
        run = f'name="sinusoid",run="{running.run.uid}"'
        wait_until(lambda: value(get(f"{url}/metrics"), f"metafleet_run_steps{{{run}}}"), "the run")
        assert json.loads(get(f"{url}/demand"))["open_shards"] > 0
        running.result()

        text = get(f"{url}/metrics")
        wait_until(
            lambda: value(get(f"{url}/metrics"), 'metafleet_runs{status="finished"}') == 1,
            "its end",
        )
        text = get(f"{url}/metrics")
        assert value(text, 'metafleet_workers{device="cpu"}') == 2
        n_jobs = value(text, "metafleet_jobs_total") or 0
        assert n_jobs > 40  # 10 steps of 4 shards, and the test
        assert value(text, 'metafleet_attempts_total{outcome="sent",reason="first"}') == n_jobs
        assert value(text, 'metafleet_queue_messages{queue="inner.cpu"}') == 0
        assert (value(text, 'metafleet_redis_memory_bytes{server="broker"}') or 0) > 0
        assert f'run="{running.run.uid}"' not in text
        assert json.loads(get(f"{url}/demand"))["open_shards"] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)


def test_redis_and_the_database_may_go_and_come_back(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    server = PostgresServer()
    try:
        upgrade(url := server.new_database())
        settings = replace(fleet.settings, database_url=url)
        execute(settings, new_run(settings, EXPERIMENT), in_process=True)
        monitor = Monitor(settings, fresh_s=0)
        assert monitor.look().fleet is not None and monitor.look().runs is not None

        redis_server.kill()
        server.stop()
        found = monitor.look()
        assert found.fleet is None and "cannot be reached" in found.fleet_problem
        assert found.runs is None and "check that the server runs" in found.runs_problem
        assert "\n" not in found.fleet_problem + found.runs_problem

        redis_server.start()
        server.start()
        wait_until(lambda: monitor.look().runs, "the database is back")
        found = monitor.look()
        assert found.fleet is not None and found.runs is not None
        assert found.runs.by_status == {"finished": 1}
        monitor.close()
    finally:
        server.remove()


def test_demand_that_is_not_ours_is_dropped_and_old_demand_does_not_count(fleet: Fleet) -> None:
    with connect(str(fleet.settings.broker_url)) as client:
        now_us = client.time()[0] * 1_000_000
        client.hset(DEMAND, "now", f"5 {now_us}")
        client.hset(DEMAND, "old", f"7 {now_us - 60_000_000}")
        client.hset(DEMAND, "odd", "many")
        found = Monitor(fleet.settings).look().fleet

        assert found is not None and found.open_shards == 5
        assert client.hkeys(DEMAND) == [b"now", b"old"]


def test_demand_rises_at_once_and_falls_slowly(fleet: Fleet) -> None:
    monitor = Monitor(fleet.settings, fresh_s=0)
    with connect(str(fleet.settings.broker_url)) as client:
        assert monitor.look().smooth_demand == 0
        client.hset(DEMAND, "run", f"64 {client.time()[0] * 1_000_000}")
        assert monitor.look().smooth_demand == 64
        client.delete(DEMAND)
        assert 60 < monitor.look().smooth_demand < 64
