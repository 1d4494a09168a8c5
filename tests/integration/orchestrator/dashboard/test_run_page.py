import socket
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import (
    CheckpointRecord,
    InnerCurveRecord,
    InnerRatesRecord,
    RunRecord,
    RunStatus,
)
from metafleet.db.repositories import (
    EvaluationRepository,
    InnerCurveRepository,
    InnerRatesRepository,
    OuterStepRepository,
    RunRepository,
)
from metafleet.db.repositories.checkpoints import CheckpointRepository
from metafleet.splits import META_TEST
from tests.dashboard import Served, check_page, serve
from tests.dashboard_runs import HOSTILE, add_run, make_evaluation, make_step
from tests.fleet import wait_until

PASSWORD = "correct horse"


def wait_for_curves(page: Page) -> None:
    expect(page.locator("#chart-loss canvas")).to_be_visible()


def add_checkpoint(database: Database, run: RunRecord, step: int, sha256: str) -> None:
    with database.session() as session:
        record = CheckpointRecord(step=step, path="x", sha256=sha256 * 64, size_bytes=1)
        CheckpointRepository(session).upsert_many(run.id, [record])


def test_curves_have_a_table_of_the_same_numbers(served: Served, page: Page) -> None:
    add_run(served.database)
    page.goto(f"{served.url}/runs/1")
    wait_for_curves(page)
    page.get_by_text("Table: Loss").click()
    expect(page.locator("#chart-loss details tbody tr")).to_have_count(20)
    expect(page.locator("#chart-loss details tbody tr").nth(9)).to_contain_text("0.2")


def test_the_range_of_steps_is_in_the_url(served: Served, page: Page) -> None:
    add_run(served.database)
    page.goto(f"{served.url}/runs/1?from=5&to=8")
    wait_for_curves(page)
    page.get_by_text("Table: Loss").click()
    rows = page.locator("#chart-loss details tbody tr")
    expect(rows).to_have_count(4)
    page.get_by_label("to", exact=True).fill("14")
    page.get_by_role("button", name="Show").click()
    expect(rows).to_have_count(10)
    assert page.url.endswith("?from=5&to=14")
    page.go_back()
    expect(rows).to_have_count(4)


def test_a_long_curve_is_down_sampled_by_the_database(served: Served, page: Page) -> None:
    run = add_run(served.database, steps=20)
    with served.database.session() as session:
        OuterStepRepository(session).upsert_many(run.id, map(make_step, range(21, 5001)))
    answer = page.request.get(f"{served.url}/runs/1/curves.json").json()["charts"]["loss"]
    assert 200 < len(answer["x"]) <= 310
    training, at = answer["series"][0], answer["x"].index(9)
    assert (training["low"][at], training["high"][at]) == (pytest.approx(2 / 17, rel=1e-4), 2.0)
    assert training["value"][at] == pytest.approx(sum(2 / n for n in range(1, 18)) / 17, rel=1e-5)


def test_same_bits_are_told_and_different_ones_too(served: Served, page: Page) -> None:
    ours, equal, other = (add_run(served.database) for _ in range(3))
    add_run(served.database, seed=2)
    for run, letters in ((ours, "ab"), (equal, "ab")):
        for step, letter in zip((10, 20), letters, strict=True):
            add_checkpoint(served.database, run, step, letter)
    page.goto(f"{served.url}/runs/{ours.id}")
    expect(page.locator("#facts .badge")).to_have_text("same bits as another run, up to step 20")
    add_checkpoint(served.database, other, 20, "c")
    page.reload()
    expect(page.locator("#facts .badge")).to_contain_text("from step 20 on")
    expect(page.locator("#bits tbody tr")).to_have_count(2)


def test_a_running_run_stays_current(served: Served, page: Page) -> None:
    run = add_run(served.database, status=RunStatus.RUNNING, steps=7)
    page.goto(f"{served.url}/runs/1")
    wait_for_curves(page)
    page.get_by_text("Table: Loss").click()
    rows = page.locator("#chart-loss details tbody tr")
    expect(rows).to_have_count(7)
    with served.database.session() as session:
        OuterStepRepository(session).upsert_many(run.id, [make_step(8)])
        RunRepository(session).set_progress(run.id, steps_done=8)
    expect(rows).to_have_count(8)
    expect(page.locator("#facts")).to_contain_text("8 / 20")


def test_the_page_is_accessible(served: Served, page: Page) -> None:
    add_run(served.database, learner={"name": "maml", "note": "x" * 200})
    check_page(page, f"{served.url}/runs/1", wait_for_curves)


def test_an_unknown_run_is_one_line(served: Served, page: Page) -> None:
    answer = page.goto(f"{served.url}/runs/nothing")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("alert")).to_contain_text("no run 'nothing'")


def test_actions_need_a_sign_in_and_then_work(settings: Settings, page: Page) -> None:
    with (
        Database.open(settings.database_url) as database,
        serve(database, replace(settings), password=PASSWORD) as served,
    ):
        add_run(database, status=RunStatus.RUNNING, name=HOSTILE, steps=7)
        page.goto(f"{served.url}/runs/1")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("this is not the password")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Note").fill(HOSTILE)
        page.locator("form[action$='/note'] button").click()
        expect(page.locator("p.hint").first).to_have_text(HOSTILE)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#state")).to_have_text("cancelled")
        page.get_by_label("Tags").fill("paper best")
        page.locator("form[action$='/tag'] button").click()
        expect(page.locator(".head .tag")).to_have_text(["best", "paper"])
        page.get_by_role("button", name="Resume in the queue").click()
        expect(page.locator("#state")).to_contain_text("queued")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Password")).to_be_visible()


def add_inner_rows(database: Database, run: RunRecord) -> None:
    curve = InnerCurveRecord(
        step=20,
        split=META_TEST,
        label="trained",
        episodes=60,
        support_losses=(2.0, 1.0, 0.5),
        support_accuracies=(0.2, 0.7, 0.9),
        query_losses=(2.0, 1.2, 0.8),
        query_losses_ci95=(0.1, 0.1, 0.1),
        query_accuracies=(0.2, 0.6, 0.8),
        query_accuracies_ci95=(0.01, 0.02, 0.03),
    )
    rates = [
        InnerRatesRecord(step=step, layers=("conv1", HOSTILE), rates=(0.1, 0.2, 0.3, 0.01 * step))
        for step in (10, 20)
    ]
    with database.session() as session:
        InnerCurveRepository(session).upsert_many(run.id, [curve])
        InnerRatesRepository(session).upsert_many(run.id, rates)
        EvaluationRepository(session).upsert_many(
            run.id,
            [
                replace(make_evaluation(META_TEST, 20, accuracy), label=label)
                for label, accuracy in (
                    ("trained, modalities=audio", 0.5),
                    ("trained, modalities=image", 0.7),
                )
            ],
        )


def test_inner_steps_rates_and_modalities_are_shown(served: Served, page: Page) -> None:
    add_inner_rows(served.database, add_run(served.database))
    page.goto(f"{served.url}/runs/1")
    page.get_by_text("Table: Accuracy by inner step").click()
    rows = page.locator("#chart-inner_accuracy details tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.last).to_contain_text("80.00 %")
    expect(page.locator(".heat tbody th")).to_have_text(["conv1", HOSTILE])
    expect(page.locator(".heat tr:last-child td").last).to_have_text("0.2")
    page.get_by_label("After outer step").select_option("10")
    page.locator("form", has=page.get_by_label("After outer step")).get_by_role("button").click()
    expect(page.locator(".heat tr:last-child td").last).to_have_text("0.1")
    expect(page.locator("#modalities tbody th")).to_have_text(["audio+image", "audio", "image"])
    check_page(page, f"{served.url}/runs/1", wait_for_curves)


def test_a_fleet_that_is_down_is_told_and_pages_work(settings: Settings, page: Page) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = replace(settings, broker_url=f"redis://:secret@127.0.0.1:{port}/0")
    with Database.open(settings.database_url) as database, serve(database, settings) as served:
        add_run(database, status=RunStatus.RUNNING, steps=7)
        page.goto(f"{served.url}/runs/1")
        wait_for_curves(page)
        wait_until(lambda: served.site.fleet.state.problem, "Redis is found to be away")
        page.reload()
        expect(page.locator("#fleet")).to_have_text("Redis unreachable")
        assert "secret" not in page.content()
        expect(page.locator("#state")).to_have_text("running")
