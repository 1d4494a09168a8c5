"""What the exporter serves, for given readings."""

from dataclasses import replace

from starlette.testclient import TestClient

from metafleet.orchestrator.monitoring.exporter import make_app
from metafleet.orchestrator.monitoring.monitor import Snapshot
from tests.unit.orchestrator.monitoring.snapshots import FULL, RUN, Fixed, scrape


def test_workers_count_by_device_if_they_are_alive() -> None:
    text = scrape(make_app(Fixed(FULL)))

    assert 'metafleet_workers{device="cpu"} 1.0' in text
    assert 'metafleet_workers{device="cuda"} 1.0' in text
    assert 'metafleet_worker_processes{device="cuda"} 2.0' in text
    assert "dead@lab" not in text


def test_a_run_has_its_figures_under_its_uid_and_name() -> None:
    text = scrape(make_app(Fixed(FULL)))
    run = f'run="{RUN.uid}"'

    assert f'metafleet_run_state{{name="sinusoid-maml",{run},state="retrying"}} 1.0' in text
    assert f'metafleet_run_steps_done{{name="sinusoid-maml",{run}}} 12.0' in text
    assert f'metafleet_run_step_seconds{{name="sinusoid-maml",{run}}} 0.25' in text
    assert f'metafleet_run_jobs_per_second{{name="sinusoid-maml",{run}}} 16.0' in text
    assert f'metafleet_run_slowest_job_seconds{{name="sinusoid-maml",{run}}} 1.5' in text
    assert f'metafleet_run_step_bytes{{name="sinusoid-maml",{run}}} 4096.0' in text
    assert f"metafleet_demand_shards{{{run}}} 9.0" in text
    assert 'metafleet_runs{status="queued"} 0.0' in text
    assert "metafleet_jobs_total 40.0" in text


def test_a_hostile_name_stays_one_label() -> None:
    assert FULL.runs is not None
    (open_run,) = FULL.runs.open_runs
    hostile = replace(open_run, run=replace(RUN, name='a"} 1\nmetafleet_jobs_total 9'))
    runs = replace(FULL.runs, open_runs=(hostile,))

    text = scrape(make_app(Fixed(replace(FULL, runs=runs))))

    assert 'name="a\\"} 1\\nmetafleet_jobs_total 9"' in text


def test_what_does_not_answer_leaves_a_gap_and_says_so() -> None:
    text = scrape(make_app(Fixed(replace(FULL, fleet=None, fleet_problem="Redis is away"))))

    assert 'metafleet_up{service="redis"} 0.0' in text
    assert 'metafleet_up{service="database"} 1.0' in text
    assert "metafleet_workers" not in text and "metafleet_runs" in text


def test_an_autoscaler_gets_one_number_or_an_error() -> None:
    answer = TestClient(make_app(Fixed(FULL))).get("/demand")
    assert answer.json() == {"open_shards": 9, "smoothed": 9.5, "worker_processes": 4}

    away = Snapshot(fleet_problem="Redis is away")
    answer = TestClient(make_app(Fixed(away))).get("/demand")
    assert (answer.status_code, answer.json()) == (503, {"error": "Redis is away"})
