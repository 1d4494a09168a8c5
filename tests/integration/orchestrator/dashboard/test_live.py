import re
import time

from playwright.sync_api import Page, expect

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import AttemptRecord, RunStatus
from metafleet.db.repositories import AttemptRepository, RunRepository
from metafleet.orchestrator.dashboard.fleet import FleetState
from tests.dashboard import Served, serve
from tests.dashboard_runs import add_run

N_TABS = 20


def finish(database: Database, run_id: int) -> None:
    with database.session() as session:
        RunRepository(session).mark_status(run_id, RunStatus.FINISHED)


def test_a_page_reconnects_when_the_server_is_back(settings: Settings, page: Page) -> None:
    with Database.open(settings.database_url) as database:
        add_run(database, status=RunStatus.RUNNING, steps=7)
        with serve(database, settings) as served:
            port = int(served.url.rpartition(":")[2])
            page.goto(served.url)
            expect(page.locator("#run-1 .state")).to_have_text("running")
        expect(page.locator("#live")).to_have_text("reconnecting")
        finish(database, 1)
        with serve(database, settings, port=port):
            expect(page.locator("#run-1 .state")).to_have_text("finished")
            expect(page.locator("#live")).to_be_hidden()


def test_twenty_tabs_load_and_share_one_stream(served: Served, page: Page) -> None:
    add_run(served.database, status=RunStatus.RUNNING, steps=7)
    tabs = [page, *(page.context.new_page() for _ in range(N_TABS - 1))]
    for tab in tabs:
        tab.goto(served.url, wait_until="domcontentloaded")
        expect(tab.locator("#run-1 .state")).to_have_text("running")
    wait_for_streams(served, 1)
    finish(served.database, 1)
    for tab in (tabs[0], tabs[-1]):
        expect(tab.locator("#run-1 .state")).to_have_text("finished")
    tabs[0].close()  # the tab that had the stream: another takes over
    wait_for_streams(served, 1)
    add_run(served.database, name="later")
    expect(tabs[7].locator("#run-2")).to_be_visible()


def test_a_lost_attempt_and_missing_workers_appear_by_themselves(
    served: Served, page: Page
) -> None:
    run = add_run(served.database, status=RunStatus.RUNNING, steps=7)
    page.goto(served.url)
    wait_for_streams(served, 1)
    with served.database.session() as session:
        lost = AttemptRecord(
            stream="train", step=8, epoch=0, shard=2, attempt=1, outcome="lost", detail="gone"
        )
        AttemptRepository(session).upsert_many(run.id, [lost])
    expect(page.locator("#run-1 .state")).to_have_text("retrying")
    expect(page.locator("#run-1 .reason")).to_have_text("step 8, shard 2: lost (gone)")
    served.site.fleet.state = FleetState(())
    expect(page.locator("#run-1 .state")).to_have_text("paused")
    expect(page.locator("#fleet")).to_have_text("0 workers")


def wait_for_streams(served: Served, count: int) -> None:
    deadline = time.monotonic() + 10
    while served.site.hub.n_listeners != count:
        assert time.monotonic() < deadline, served.site.hub.n_listeners
        time.sleep(0.05)


def test_everything_can_be_done_with_the_keyboard(served: Served, page: Page) -> None:
    for name in ("first", "second", "third"):
        add_run(served.database, name=name)
    page.goto(served.url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "Filter")
    page.keyboard.type("name=second or name=third")
    page.keyboard.press("Enter")
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    for label in ("Compare run 3, third", "Compare run 2, second"):
        tab_to(page, label)
        page.keyboard.press("Space")
    tab_to(page, "Compare 2 selected")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Comparison")
    tab_to(page, "Table: Score")
    page.keyboard.press("Enter")
    expect(page.locator("#chart-accuracy details tbody tr")).to_have_count(4)
    tab_to(page, "Colours")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def tab_to(page: Page, label: str) -> None:
    """Press Tab until an element with this label, or with this text, has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent)"
            "(document.activeElement)"
        )
        if re.match(rf"\s*{re.escape(label)}", found or ""):
            return
    raise AssertionError(f"no element is labelled {label!r}")
