"""One trace for each outer step, across the orchestrator and real workers."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metafleet.contracts.settings import Settings
from metafleet.contracts.tracing import stop_tracing
from metafleet.errors import ConfigError
from tests.collector import Collector, collecting
from tests.fleet import Fleet
from tests.runs import config, execute, new_run

EXPERIMENT = config(
    outer={"steps": 3}, validation={"every": 0}, test={"episodes": 3, "baselines": False}
)
SHARDS = 4


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as opened:
        yield opened


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_step_is_one_trace_and_nothing_is_lost_when_workers_end(
    fleet: Fleet, collector: Collector, pool: str
) -> None:
    fleet.settings = replace(fleet.settings, traces_url=collector.url)
    more = ("--concurrency", "2") if pool == "prefork" else ()
    fleet.start(1, "--pool", pool, *more)
    run = new_run(fleet.settings, EXPERIMENT)
    try:
        execute(fleet.settings, run)
    finally:
        stop_tracing()
    (worker,) = fleet.workers
    worker.send(signal.SIGTERM)  # at once: its last spans still wait
    worker.process.wait(30)

    log = worker.log.read_text()  # of the children too
    assert f"[run={run.uid} stream=train step=3 shard=0 attempt=1 worker=" in log
    assert "Task metafleet.inner_loop" not in log
    roots = sorted(collector.named("step"), key=lambda span: span.start_ns)
    assert [root.attributes["step"] for root in roots] == [1, 2, 3]
    assert {root.attributes["run"] for root in roots} == {run.uid}
    assert len({root.trace for root in roots}) == 3
    for root in roots:
        parts = [span for span in collector.spans if span.parent == root.id]
        assert {span.trace for span in parts} == {root.trace}
        names = Counter(span.name for span in parts)
        assert names["compute"] == SHARDS and names["commit"] == names["wait"] == 1
        assert names["plan"] >= 1 and names["send"] >= 1 and names["sum"] == SHARDS + 1
        assert all(root.start_ns <= span.start_ns <= span.end_ns for span in parts)
        assert max(span.end_ns for span in parts if span.name != "compute") <= root.end_ns
        computed = [span for span in parts if span.name == "compute"]
        assert {span.service for span in computed} == {"metafleet-worker"}
        assert sorted(span.attributes["shard"] for span in computed) == list(range(SHARDS))
        assert {span.attributes["outcome"] for span in computed} == {"ok"}
        assert not any(span.is_error for span in parts)
    assert len(collector.named("compute")) == 3 * SHARDS  # none of the test's evaluation


def test_a_collector_that_is_away_disturbs_nothing(fleet: Fleet) -> None:
    fleet.settings = replace(fleet.settings, traces_url="http://127.0.0.1:9/v1/traces")
    fleet.start(1)
    try:
        report = execute(fleet.settings, new_run(fleet.settings, EXPERIMENT))
    finally:
        stop_tracing()

    assert report.status == "finished"


def test_without_a_collector_nothing_of_opentelemetry_is_imported_by_us(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"  # importing it would raise an error
        "from metafleet.contracts import tracing\n"
        "from metafleet.contracts.settings import Settings\n"
        "tracing.start_tracing(Settings.load({}), 'x'); tracing.begin_step('train', 1)\n"
        "with tracing.step_span('train', 1, 'plan'): pass\n"
        "tracing.end_step('train', 1); print(repr(tracing.trace_parent('train', 1)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )

    assert (done.returncode, done.stdout) == (0, "''\n"), done.stderr


def test_what_is_no_address_of_a_collector_is_refused() -> None:
    with pytest.raises(ConfigError, match="METAFLEET_TRACES='localhost:4318'; expected http://"):
        Settings.load({"METAFLEET_TRACES": "localhost:4318"})
