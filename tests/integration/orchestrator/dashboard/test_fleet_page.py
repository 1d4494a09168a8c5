import json
import socket
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import AttemptRecord, JobRecord, RunRecord, RunStatus
from metafleet.db.repositories import JobRepository, OuterStepRepository
from metafleet.db.repositories.attempts import AttemptRepository
from metafleet.orchestrator.client.records import Records
from metafleet.orchestrator.records.faults import read_faults
from metafleet.orchestrator.records.timeline import Kind, read_timeline
from tests.dashboard import Served, check_page, serve
from tests.dashboard_runs import HOSTILE, add_run, make_step
from tests.fleet import wait_until

ORIGIN_US = 1_790_000_000_000_000


def job(step: int, shard: int, *, stream: str = "train") -> JobRecord:
    return JobRecord(
        stream=stream,
        step=step,
        shard=shard,
        attempt=2 if (step, shard) == (3, 1) else 1,
        worker=f"lab:{10 + shard % 2}",
        device="cpu",
        outcome="ok",
        queue_wait_s=0.1,
        compute_s=0.2 + 0.1 * shard,
        payload_bytes=1,
        episodes=4,
        sent_us=ORIGIN_US + step * 1_000_000,
        round_trip_s=0.35 + 0.1 * shard,
    )


def attempt(outcome: str, reason: str, **changes: object) -> AttemptRecord:
    record = AttemptRecord(
        stream="train",
        step=3,
        epoch=1,
        shard=1,
        attempt=1,
        outcome=outcome,
        reason=reason,
        worker=HOSTILE,
        sent_us=ORIGIN_US + 3_000_000,
        queue_wait_s=0.05,
        compute_s=1.5,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def add_fleet_run(
    database: Database, *, status: RunStatus = RunStatus.FINISHED, steps: int = 20
) -> RunRecord:
    run = add_run(database, status=status, steps=steps)
    with database.session() as session:
        jobs = [job(step, shard) for step in range(1, steps + 1) for shard in range(3)]
        JobRepository(session).upsert_many(run.id, jobs)
        AttemptRepository(session).upsert_many(
            run.id,
            [
                attempt("late", "done"),
                attempt("lost", "worker", step=4, worker="", compute_s=float("nan")),
            ],
        )
        fewer = [replace(make_step(step), workers_alive=1) for step in (4, 5)]
        OuterStepRepository(session).upsert_many(run.id, fewer)
    return run


def wait_for_timeline(page: Page) -> None:
    expect(page.locator("#timeline[data-view]")).to_be_visible()
    expect(page.locator("[data-table=workers] tbody tr").first).to_be_visible()


def test_a_timeline_grows_by_what_is_new(database: Database) -> None:
    run = add_fleet_run(database, steps=5)
    with database.session() as session:
        first = read_timeline(session, run.id)
        JobRepository(session).upsert_many(run.id, [job(6, 0), job(1, 0, stream="validate")])
        grown = read_timeline(session, run.id, first)
        again = read_timeline(session, run.id)
    assert (len(first.jobs), len(grown.jobs), len(first.others)) == (15, 17, 2)
    assert sorted(grown.jobs.counted) == sorted(again.jobs.counted)
    assert grown.streams == ("train", "validate")
    assert first.jobs.kind.tolist().count(Kind.REPEATED) == 1
    assert first.others.kind.tolist() == [Kind.IN_VAIN, Kind.FAILED]


def test_faults_are_attempts_and_changes_of_workers(database: Database) -> None:
    run = add_fleet_run(database)
    with database.session() as session:
        faults = read_faults(session, run.id)
    assert [(fault.step, fault.text) for fault in faults] == [
        (3, "1 shard late: another attempt had counted first"),
        (4, "1 worker went; 1 alive"),
        (4, "1 shard lost: its worker was gone"),
        (6, "1 worker came; 2 alive"),
    ]


def test_the_pages_read_sqlite_and_postgresql(
    database: Database, database_url: str, settings: Settings
) -> None:
    add_fleet_run(database)
    with serve(database, replace(settings, database_url=database_url)) as served:

        def get(path: str) -> str:
            with urllib.request.urlopen(served.url + path, timeout=20) as answer:
                text: str = answer.read().decode()
            return text

        assert "lab:10" in get("/fleet")
        assert "1 worker went" in get("/runs/1/fleet")
        step = json.loads(get("/runs/1/timeline.json?step=3"))
        assert {(span[7], span[8]) for span in step["spans"]} >= {(3, 0), (3, 1), (3, 2)}
        events = json.loads(get("/runs/1/trace.json"))
        attempts = [event for event in events if event["ph"] == "X" and event["pid"] == 1]
        assert len(attempts) == 62
        assert min(event["ts"] for event in attempts) >= 0
        assert {event["cat"] for event in attempts} == {
            *("counted", "counted,repeated", "discarded", "failed"),
        }


@pytest.mark.parametrize("query", ["step=99", "step=1&stream=nothing"])
def test_a_step_without_times_is_one_line(served: Served, page: Page, query: str) -> None:
    add_fleet_run(served.database)
    page.goto(f"{served.url}/runs/1/fleet?{query}")
    expect(page.locator("#timeline-problem")).to_contain_text("there are no times of step")


def test_zoom_and_step_are_in_the_url(served: Served, page: Page) -> None:
    add_fleet_run(served.database)
    page.goto(f"{served.url}/runs/1/fleet")
    wait_for_timeline(page)
    whole = page.locator("#timeline").get_attribute("data-view")
    steps = page.locator("[data-table=steps] tbody tr")
    expect(steps).to_have_count(10)
    page.get_by_label("Step", exact=True).fill("7")
    page.keyboard.press("Enter")
    expect(steps).to_have_count(1)
    assert page.url.endswith("/runs/1/fleet?step=7&stream=train")
    expect(steps.first).to_contain_text("lab:10")
    page.reload()
    expect(steps).to_have_count(1)
    for _ in range(2):
        before = page.locator("#timeline").get_attribute("data-view") or ""
        page.get_by_role("button", name="Zoom out").press("Enter")
        expect(page.locator("#timeline")).not_to_have_attribute("data-view", before)
    expect(steps).not_to_have_count(1)
    assert "begin=" in page.url
    page.get_by_role("button", name="Whole run").press("Enter")
    expect(page.locator("#timeline")).to_have_attribute("data-view", whole or "")
    page.go_back()
    expect(steps).not_to_have_count(10)


def test_dragging_zooms_and_a_click_shows_a_step(served: Served, page: Page) -> None:
    add_fleet_run(served.database)
    page.goto(f"{served.url}/runs/1/fleet")
    wait_for_timeline(page)
    area = page.locator("#timeline canvas").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + 40)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.75, area["y"] + 40)
    page.mouse.up()
    page.wait_for_url("**begin=**")
    page.get_by_label("Step", exact=True).fill("7")
    page.keyboard.press("Enter")
    expect(page.locator("[data-table=steps] tbody tr")).to_have_count(1)
    # the bar of shard 0: from 0.1 to 0.3 of the 0.55 seconds of the step
    page.locator("#timeline canvas").hover(position={"x": area["width"] * 0.38, "y": 57})
    expect(page.locator("#timeline-detail")).to_contain_text("train step 7, shard")


def test_the_attempts_are_a_table(served: Served, page: Page) -> None:
    add_fleet_run(served.database)
    page.goto(f"{served.url}/runs/1/fleet?step=3")
    wait_for_timeline(page)
    page.get_by_text("Table of the attempts").click()
    rows = page.locator("[data-table=attempts] tbody tr")
    expect(rows.filter(has_text="discarded")).to_contain_text(HOSTILE)
    expect(rows.filter(has_text="counted at a later attempt")).to_have_count(1)


def test_a_running_run_grows(served: Served, page: Page) -> None:
    run = add_fleet_run(served.database, status=RunStatus.RUNNING, steps=5)
    page.goto(f"{served.url}/runs/1/fleet")
    wait_for_timeline(page)
    steps = page.locator("[data-table=steps] tbody tr")
    expect(steps).to_have_count(5)
    with served.database.session() as session:
        JobRepository(session).upsert_many(run.id, [job(6, shard) for shard in range(3)])
        AttemptRepository(session).upsert_many(run.id, [attempt("late", "closed", step=5)])
    expect(steps).to_have_count(6)


def test_the_pages_are_accessible(served: Served, page: Page) -> None:
    add_fleet_run(served.database)
    check_page(page, f"{served.url}/runs/1/fleet", wait_for_timeline)
    check_page(page, f"{served.url}/fleet")


def test_without_redis_the_database_tells_of_the_workers(settings: Settings, page: Page) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = replace(
        settings,
        broker_url=f"redis://:secret@127.0.0.1:{port}/0",
        flower_url="http://localhost:5555",
    )
    with Database.open(settings.database_url) as database, serve(database, settings) as served:
        add_fleet_run(database)
        wait_until(lambda: served.site.fleet.state.problem, "Redis is found to be away")
        page.goto(f"{served.url}/fleet")
        expect(page.locator("#workers tbody tr")).to_have_count(2)
        expect(page.locator("#source")).to_contain_text("from the database")
        expect(page.get_by_role("link", name="Flower")).to_be_visible()
        assert "secret" not in page.content()


def test_the_export_is_the_same_file(settings: Settings, tmp_path: Path) -> None:
    with Database.open(settings.database_url) as database, serve(database, settings) as served:
        run = add_fleet_run(database)
        path = Records(database, settings).named(str(run.id))[0].write_trace(tmp_path / "out")
        with urllib.request.urlopen(f"{served.url}/runs/1/trace.json", timeout=20) as answer:
            assert path.read_bytes() == answer.read()
