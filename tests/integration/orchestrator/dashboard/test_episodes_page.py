"""The page of episodes, over real runs: their episodes are drawn again in another process."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests import runs
from tests.dashboard import Served, check_page, serve
from tests.dashboard_runs import add_run
from tests.folders import OTHER_SEED
from tests.menagerie import make_classes

HOSTILE = "<img src=x onerror=alert(1)>&"
_DRAWN_MS = 120_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home with a run on sounds (1) and a run of regression (2)."""
    folder = tmp_path_factory.mktemp("episodes")
    settings = Settings.load(given={"METAFLEET_HOME": str(folder / "home")})
    make_classes(folder / "things", range(12), n_items=8, seed=1)
    for place in list((folder / "things").iterdir()):
        place.rename(place.with_name(f"{HOSTILE}{place.name}"))
    data = {
        "name": "folder",
        "path": str(folder / "things"),
        "split_seed": OTHER_SEED,
        "split_fractions": [0.34, 0.33, 0.33],
        "modalities": ["audio"],
        "audio": {"form": "wave", "sample_rate_hz": 8000, "duration_s": 0.25},
    }
    sounds = ExperimentConfig.from_json(
        {
            "name": "sounds",
            "seed": 1,
            "data": data,
            "episodes": {"n_way": 3, "k_shot": 1, "n_query": 2},
            "model": {"name": "mlp", "hidden": [8]},
            "learner": {"name": "protonet"},
            "outer": {"steps": 2, "meta_batch_size": 2, "lr": 0.01},
            "validation": {"every": 0},
            "test": {"episodes": 30, "baselines": True},
            "engine": {"episodes_per_job": 2},
        }
    )
    for config in (sounds, runs.config()):
        runs.execute(settings, runs.new_run(settings, config), in_process=True)
    return settings


@pytest.fixture
def episodes(home: Settings) -> Iterator[Served]:
    with Database.open(home.database_url) as database, serve(database, home) as found:
        yield found


def wait_until_drawn(page: Page) -> None:
    expect(page.locator("#drawn-episode .badge")).to_be_visible(timeout=_DRAWN_MS)


def test_the_worst_episode_is_drawn_with_its_sounds(episodes: Served, page: Page) -> None:
    page.goto(f"{episodes.url}/runs/1")
    page.get_by_role("link", name="Episodes", exact=True).click()
    wait_until_drawn(page)
    expect(page.locator("#drawn-episode .badge")).to_have_text("as recorded")
    cards = page.locator("#drawn-episode .item")
    expect(cards).to_have_count(3 + 6)
    expect(cards.first).to_contain_text(HOSTILE)
    assert page.locator("#drawn-episode .item.wrong").count() >= 1
    sound = page.locator("#drawn-episode audio").first
    address = sound.get_attribute("src")
    answer = page.request.get(f"{episodes.url}{address}")
    assert answer.ok and answer.body()[:4] == b"RIFF"
    seconds = sound.evaluate(
        "it => new Promise(done => { it.onloadedmetadata = () => done(it.duration); it.load();"
        " it.preload = 'auto'; })"
    )
    assert seconds == pytest.approx(0.25, abs=0.01)
    width = page.locator("#drawn-episode img").first.evaluate("it => it.naturalWidth")
    assert width > 10


def test_the_list_is_worst_first_and_reached_by_keys(episodes: Served, page: Page) -> None:
    page.goto(f"{episodes.url}/runs/1/episodes")
    rows = page.locator("#episodes tbody tr")
    expect(rows).to_have_count(12)
    values = [
        float(text.rstrip(" %")) for text in rows.locator("td:nth-child(3)").all_inner_texts()
    ]
    assert values == sorted(values)
    page.locator("#episodes tbody a").nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("h2").first).to_contain_text("rank 3 of 30")
    page.get_by_role("link", name="Better one").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h2").first).to_contain_text("rank 4 of 30")
    page.get_by_role("link", name="Better", exact=True).click()
    expect(rows).to_have_count(12)
    page.get_by_role("link", name="Better", exact=True).click()
    expect(rows).to_have_count(6)


def test_the_histogram_has_a_table_of_the_same_numbers(episodes: Served, page: Page) -> None:
    page.goto(f"{episodes.url}/runs/1/episodes")
    page.get_by_text("Table: accuracy of the episodes").click()
    counts = page.locator(".chart tbody td.num").all_inner_texts()
    assert sum(map(int, counts)) == 30


def test_classes_are_counted_while_the_page_stays_usable(episodes: Served, page: Page) -> None:
    page.goto(f"{episodes.url}/runs/1/episodes?page=2")
    page.get_by_role("button", name="Compute 30 episodes").focus()
    page.keyboard.press("Enter")
    began = time.monotonic()
    assert page.request.get(f"{episodes.url}/").ok
    assert time.monotonic() - began < 5
    expect(page.locator("#class-results")).to_contain_text(
        "30 of 30 episodes computed, all as recorded", timeout=_DRAWN_MS
    )
    expect(page.locator("#hardest tbody tr").first).to_contain_text(HOSTILE)
    queries = page.locator("#hardest td:nth-child(3)").all_inner_texts()
    assert sum(map(int, queries)) == 30 * 6


def test_a_baseline_can_be_chosen(episodes: Served, page: Page) -> None:
    page.goto(f"{episodes.url}/runs/1/episodes")
    page.locator("#evaluation").select_option(index=0)
    page.locator("form.filter button").click()
    wait_until_drawn(page)
    assert "evaluation=0" in page.url
    expect(page.locator("#drawn-episode .badge")).to_have_text("as recorded")


def test_regression_has_a_curve_and_a_table(episodes: Served, page: Page) -> None:
    page.goto(f"{episodes.url}/runs/2/episodes")
    wait_until_drawn(page)
    expect(page.locator(".function circle")).to_have_count(5)
    expect(page.locator("#class-results")).to_have_count(0)
    page.get_by_text("Table: queries").click()
    expect(page.locator("#drawn-episode tbody tr")).to_have_count(5)


def test_the_pages_are_accessible(episodes: Served, page: Page) -> None:
    check_page(page, f"{episodes.url}/runs/1/episodes", wait_until_drawn)
    check_page(page, f"{episodes.url}/runs/2/episodes", wait_until_drawn)


def test_what_cannot_be_drawn_is_one_line(episodes: Served, page: Page, home: Settings) -> None:
    hidden = home.runs_dir.with_name("hidden")
    home.runs_dir.rename(hidden)
    try:
        page.goto(f"{episodes.url}/runs/1/episodes?episode=7")
        problem = page.locator("#drawn-episode [role=alert]")
        expect(problem).to_contain_text("cannot be drawn: ", timeout=_DRAWN_MS)
        expect(problem).to_contain_text("checkpoint")
    finally:
        hidden.rename(home.runs_dir)


def test_a_process_that_died_starts_again(episodes: Served, page: Page, home: Settings) -> None:
    page.goto(f"{episodes.url}/runs/2/episodes?episode=1")
    wait_until_drawn(page)
    drawer = episodes.drawer
    assert drawer.process is not None
    drawer.process.kill()
    drawer.process.wait(10)
    page.goto(f"{episodes.url}/runs/2/episodes?episode=2")
    wait_until_drawn(page)


def test_a_run_without_results_of_episodes_says_so(served: Served, page: Page) -> None:
    add_run(served.database)
    page.goto(f"{served.url}/runs/1/episodes")
    expect(page.locator(".empty")).to_contain_text("No evaluation of this run kept")
    answer = page.request.get(f"{served.url}/runs/1/episodes/3/drawn")
    assert answer.status == 200 and "cannot be drawn" in answer.text()


@pytest.mark.parametrize("path", ["episodes/99/sound/query/0/x.wav", "episodes/0/sound/x/99/a.wav"])
def test_an_unknown_sound_is_refused(episodes: Served, page: Page, path: str) -> None:
    assert page.request.get(f"{episodes.url}/runs/1/{path}").status in (400, 404, 500)
