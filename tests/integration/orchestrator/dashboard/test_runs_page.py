from playwright.sync_api import Page, expect

from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunRepository
from tests.dashboard import Served, check_page
from tests.dashboard_runs import HOSTILE, add_run


def expect_names(page: Page, *names: str) -> None:
    expect(page.locator("#runs td.name > a")).to_have_text(names)


def test_runs_are_listed_with_state_best_and_last(served: Served, page: Page) -> None:
    add_run(served.database, name="first", accuracy=0.91)
    add_run(served.database, name="second", status=RunStatus.FAILED, error="loss is nan at step 7")
    page.goto(served.url)
    expect_names(page, "second", "first")
    expect(page.locator("#run-1")).to_contain_text("90.00 ± 1.00 %")
    expect(page.locator("#run-2 .state")).to_have_text("failed")
    expect(page.locator("#run-2 .reason")).to_have_text("loss is nan at step 7")


def test_filter_sort_and_state_are_in_the_url(served: Served, page: Page) -> None:
    for index, accuracy in enumerate((0.6, 0.95, 0.8)):
        add_run(served.database, name=f"run{index}", accuracy=accuracy)
    add_run(served.database, name="stopped", status=RunStatus.CANCELLED)
    page.goto(served.url)
    page.get_by_label("Filter", exact=True).fill("best>70% and status=finished")
    page.get_by_label("Filter", exact=True).press("Enter")
    page.get_by_role("link", name="Best").click()
    expect_names(page, "run1", "run2")
    page.get_by_role("link", name="Best").click()
    expect_names(page, "run2", "run1")
    page.reload()
    expect_names(page, "run2", "run1")
    page.go_back()
    expect_names(page, "run1", "run2")
    page.goto(f"{served.url}/?state=cancelled")
    expect_names(page, "stopped")


def test_a_wrong_filter_is_answered_with_one_line(served: Served, page: Page) -> None:
    add_run(served.database)
    page.goto(f"{served.url}/?where=learner.nam%3Dmaml")
    expect(page.get_by_role("alert")).to_contain_text("no run has the key 'learner.nam'")


def test_groups_over_seeds_and_the_pinned_baseline(served: Served, page: Page) -> None:
    for seed in (1, 2, 3):
        add_run(served.database, seed=seed, accuracy=0.90)
        add_run(served.database, seed=seed, accuracy=0.93, learner={"name": "maml"})
    page.goto(f"{served.url}/?group=1")
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Pin run 5 as the baseline").click()
    expect(page.locator("#run-6")).to_contain_text("+3.00 pp")
    expect(page.locator("#run-5")).to_contain_text("+0.00 pp")


def test_hostile_names_are_text(served: Served, page: Page) -> None:
    add_run(served.database, name=HOSTILE, status=RunStatus.FAILED, error=HOSTILE)
    page.goto(served.url)
    expect_names(page, HOSTILE)
    expect(page.locator("#run-1 .reason")).to_have_text(HOSTILE)


def test_the_page_is_accessible(served: Served, page: Page) -> None:
    add_run(served.database, name="a-rather-long-name-without-any-space-in-it" * 2)
    add_run(served.database, status=RunStatus.RUNNING, steps=7)
    add_run(served.database, status=RunStatus.FAILED, error="loss is nan")
    check_page(page, served.url)
    check_page(page, f"{served.url}/?group=1&baseline=1")


def test_a_change_appears_by_itself(served: Served, page: Page) -> None:
    run = add_run(served.database, status=RunStatus.RUNNING, steps=7)
    page.goto(served.url)
    page.locator("#run-1 input").check()
    expect(page.locator("#run-1 .state")).to_have_text("running")
    with served.database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.FINISHED)
    expect(page.locator("#run-1 .state")).to_have_text("finished")
    expect(page.locator("#run-1 input")).to_be_checked()
