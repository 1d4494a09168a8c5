import random

import pytest
from playwright.sync_api import Page, expect

from metafleet.db.engine import Database
from metafleet.db.records import EpisodeResultsRecord
from metafleet.db.repositories import EpisodeResultsRepository
from metafleet.splits import META_TEST
from tests.dashboard import Served, check_page
from tests.dashboard_runs import HOSTILE, add_run


def add_judged(
    database: Database, accuracies: list[float], *, seed: int = 1, **config: object
) -> int:
    """Add a run whose test has these accuracies; return its id."""
    run = add_run(database, seed=seed, **config)  # type: ignore[arg-type]
    results = EpisodeResultsRecord(
        step=20,
        split=META_TEST,
        label="trained",
        episodes=len(accuracies),
        losses=tuple(1 - share for share in accuracies),
        accuracies=tuple(accuracies),
    )
    with database.session() as session:
        EpisodeResultsRepository(session).upsert_many(run.id, [results])
    return run.id


def drawn(mean: float) -> list[float]:
    draw = random.Random(round(100 * mean))
    return [min(1.0, max(0.0, draw.gauss(mean, 0.1))) for _ in range(100)]


def test_runs_are_compared_with_the_first_by_the_same_test(served: Served, page: Page) -> None:
    for mean, name in ((0.5, "omniglot"), (0.7, HOSTILE), (0.51, "omniglot")):
        add_judged(served.database, drawn(mean), name=name, learner={"inner_lr": mean})
    page.goto(f"{served.url}/compare?run=1&run=2&run=3")
    verdicts = page.locator("#arms tbody .badge")
    expect(verdicts).to_have_text(["better", "no difference shown"])
    expect(page.locator("#arms")).to_contain_text(HOSTILE)
    expect(page.locator("#keys tbody tr")).to_have_text("learner.inner_lr0.50.70.51")
    check_page(
        page,
        f"{served.url}/compare?run=1&run=2&run=3",
        lambda page: expect(page.locator("#chart-accuracy canvas")).to_be_visible(),
    )


@pytest.mark.parametrize("accuracies", [[0.5], [0.5, 0.5, 0.5]], ids=["one episode", "no spread"])
def test_what_cannot_be_tested_has_no_p(
    served: Served, page: Page, accuracies: list[float]
) -> None:
    for _ in range(2):
        add_judged(served.database, accuracies)
    page.goto(f"{served.url}/compare?run=1&run=2")
    expect(page.locator("#arms tbody tr").last).to_contain_text("no difference shown")


def test_groups_are_compared_over_their_seeds(served: Served, page: Page) -> None:
    for seed in (1, 2, 3):
        add_judged(served.database, drawn(0.5 + 0.01 * seed), seed=seed, learner={"lr": 1})
        add_judged(served.database, drawn(0.7 + 0.02 * seed), seed=seed, learner={"lr": 2})
    page.goto(f"{served.url}/?group=1&sort=experiment")
    for box in page.locator("#runs tbody input").all():
        box.check()
    page.get_by_role("button", name="Compare 2 selected").click()
    expect(page.locator("#arms")).to_contain_text("3 seeds")
    expect(page.locator("#arms .badge")).to_have_text("worse")
    expect(page.locator("#chart-accuracy canvas")).to_be_visible()
