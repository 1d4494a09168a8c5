"""How quickly the dashboard shows a large database, and how much it slows the training it shows.

    python -m benchmarks.dashboard [--runs 1000] [--jobs 1000000] [--long-runs 10] [--repeats 9]
                                   [--slow-down-pairs 20] [--only sqlite postgresql] [--json FILE]

The database is the one of ``benchmarks.records``, and some runs of 70,000 outer steps. A headless
Chromium opens pages (the time of the first contentful paint) and uses them (the time from a click
or a key to the changed page). Answers are also timed without a browser.

For the slow-down, a run trains in one process. Again and again it is watched for some seconds, and
then not watched for some seconds. A watching client does what a browser does: it listens for events
and then gets the page of the run and its curves, as often as ``static/paced.js`` allows. The
slow-down is the median ratio of the median times of a step in each pair.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.records import add_run, fill, make_step, new_database
from metafleet.db.engine import Database
from metafleet.db.repositories import OuterStepRepository, RunRepository
from tests.paths import REPOSITORY

STEPS_OF_LONG_RUN: Final = 70_000
MOST_ANSWER_MS: Final = 200
MOST_PAINT_MS: Final = 1_000
MOST_SLOW_DOWN: Final = 0.01
BLOCK_S: Final = 5.0
SHARE, LEAST_S, MOST_S = 100, 1.0, 10.0
"""As in ``static/paced.js``."""

FIRST_PAINT = """new Promise((done) => new PerformanceObserver((list) => {
  const found = list.getEntriesByName("first-contentful-paint")[0];
  if (found) done(found.startTime);
}).observe({type: "paint", buffered: true}))"""
"""A promise, since the page's policy forbids the strings that Playwright's waiting evaluates."""


def main() -> None:
    """Generate, measure and print; exit with status 1 if something is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--long-runs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--slow-down-pairs", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measured = {kind: measure(kind, options) for kind in options.only}
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2))
    if any(row["is_slow"] for rows in measured.values() for row in rows.values()):
        raise SystemExit(1)


def measure(kind: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Fill a database and measure a dashboard over it."""
    print(f"{kind}: {options.runs} runs, {options.jobs} jobs, {options.long_runs} long runs")
    with new_database(kind) as database:
        fill(database, options.runs, options.jobs)
        long_run = [add_long_run(database, index) for index in range(options.long_runs)][-1]
        with dashboard(database) as url:
            found = answers(url, long_run, options.repeats)
            found |= in_browser(url, long_run, options.repeats)
            if options.slow_down_pairs:
                found["slow-down"] = slow_down(database, url, options.slow_down_pairs)
    return found


def add_long_run(database: Database, index: int) -> int:
    """Add a run of 70,000 steps and return its id."""
    with database.session() as session:
        run = add_run(session, index)
        steps = map(make_step, range(101, STEPS_OF_LONG_RUN + 1))
        OuterStepRepository(session).upsert_many(run.id, steps)
    return run.id


@contextmanager
def dashboard(database: Database) -> Iterator[str]:
    """Run a dashboard in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", "dashboard", "--port", "0"],
        cwd=REPOSITORY,
        env=environment(database),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = re.search(r"http://\S+(?=/;)", process.stderr.readline())
        assert found is not None
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def environment(database: Database) -> dict[str, str]:
    """Return the environment of a process that uses the database."""
    url = database._url.render_as_string(hide_password=False)
    return {**os.environ, "METAFLEET_DATABASE_URL": url}


def answers(url: str, long_run: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Time answers without a browser."""
    many = "&".join(f"run={number}" for number in range(1, long_run - 1, long_run // 20 + 1))
    paths = {
        "runs": "/",
        "runs, filtered": "/?where=learner.name%3Dmaml+and+best%3E90%25",
        "runs, sorted": "/?sort=-best",
        "runs, grouped": "/?group=1",
        "a long run": f"/runs/{long_run}",
        "curves of a long run": f"/runs/{long_run}/curves.json",
        "a part of its curves": f"/runs/{long_run}/curves.json?from=100&to=5000",
        "comparison of 2": "/compare?run=1&run=4",
        "curves of 20 runs": f"/compare.json?{many}",
    }
    asks = {name: partial(timed, partial(get, url + path)) for name, path in paths.items()}
    return {name: reported(name, ask, repeats) for name, ask in asks.items()}


def get(url: str) -> bytes:
    """Return an answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
        return body


def timed(work: Callable[[], object]) -> float:
    """Return how many milliseconds something takes."""
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)


def reported(
    name: str, work: Callable[[], float], repeats: int, *, limit_ms: float = MOST_ANSWER_MS
) -> dict[str, Any]:
    """Measure milliseconds several times, after once to warm up; print and return them."""
    work()
    found = [work() for _ in range(repeats)]
    median = statistics.median(found)
    print(f"  {name:<34} {median:>7.1f} ms, at most {max(found):.1f}, wanted {limit_ms:.0f}")
    return {"ms": median, "most_ms": max(found), "is_slow": median > limit_ms}


def in_browser(url: str, long_run: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Time paints and interactions in a headless Chromium."""
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for name, path in {"runs": "/", "long run": f"/runs/{long_run}"}.items():
            label = f"first paint: {name}"
            paint = partial(first_paint, browser, url + path)
            found[label] = reported(label, paint, repeats, limit_ms=MOST_PAINT_MS)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        for label, act in interactions(page, url, long_run).items():
            found[label] = reported(label, act, repeats)
        browser.close()
    return found


def first_paint(browser: Browser, url: str) -> float:
    """Return the milliseconds until a new browser profile has painted the page's content."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.goto(url)
    found: float = page.evaluate(FIRST_PAINT)
    context.close()
    return found


def interactions(page: Page, url: str, long_run: int) -> dict[str, Callable[[], float]]:
    """Return what a user does, by name: each returns the milliseconds until the page shows it."""

    def sort() -> float:
        page.goto(url)
        return timed(
            lambda: (page.click("th a:text('Best')"), page.wait_for_selector("[aria-sort^=desc]"))
        )

    def filter_runs() -> float:
        page.goto(url)
        page.fill("#where", "learner.name=maml and best>90%")
        return timed(lambda: (page.press("#where", "Enter"), page.wait_for_url("**/?where=*")))

    def zoom() -> float:
        page.goto(f"{url}/runs/{long_run}")
        page.wait_for_selector("#chart-loss canvas")
        page.click("text=Table: Loss")
        page.wait_for_selector("#chart-loss details td")
        page.fill("#from", "20000")
        second = "#chart-loss details tbody td:text-matches('^20,0')"
        return timed(lambda: (page.press("#from", "Enter"), page.wait_for_selector(second)))

    return {"click: sort": sort, "key: filter": filter_runs, "key: zoom of a long run": zoom}


def slow_down(database: Database, url: str, pairs: int) -> dict[str, Any]:
    """Return by how much a run slows while it is watched, from pairs of blocks."""
    training = subprocess.Popen(
        [
            *(sys.executable, "-m", "metafleet.orchestrator", "submit"),
            *(str(REPOSITORY / "experiments" / "sinusoid-maml.toml"), "--in-process"),
            *("--set", "outer.steps=1000000", "--set", "validation.every=0"),
        ],
        cwd=REPOSITORY,
        env=environment(database),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        run_id = wait_for_steps(database)
        ratios = []
        for _ in range(pairs):
            alone = step_s(database, run_id, lambda: time.sleep(BLOCK_S))
            watched = step_s(database, run_id, lambda: watch(url, run_id))
            ratios.append(watched / alone)
    finally:
        training.terminate()
        training.wait()
    median = statistics.median(ratios) - 1
    low, high = (sorted(ratios)[i] - 1 for i in (pairs // 4, -1 - pairs // 4))
    print(
        f"  {'slow-down of training':<34} {100 * median:>+7.2f} %, quartiles {100 * low:+.2f} and "
        f"{100 * high:+.2f} %, wanted {100 * MOST_SLOW_DOWN:.0f} %"
    )
    return {"share": median, "quartiles": [low, high], "is_slow": median > MOST_SLOW_DOWN}


def wait_for_steps(database: Database) -> int:
    """Wait until the newest run has committed a few steps; return its id."""
    while True:
        with database.session(read_only=True) as session:
            run = RunRepository(session).get("latest")
        if run.status == "running" and run.steps_done > 20:
            return run.id
        time.sleep(0.2)


def step_s(database: Database, run_id: int, meanwhile: Callable[[], object]) -> float:
    """Return the median time of the steps that a run committed while something was done."""
    first = steps_done(database, run_id)
    meanwhile()
    with database.session(read_only=True) as session:
        steps = OuterStepRepository(session).list(run_id, after_step=first)
    return statistics.median(step.step_s for step in steps)


def steps_done(database: Database, run_id: int) -> int:
    """Return the number of committed steps."""
    with database.session(read_only=True) as session:
        return RunRepository(session).get(run_id).steps_done


def watch(url: str, run_id: int) -> None:
    """Do for some seconds what a browser does that shows the page of a run."""
    until = time.monotonic() + BLOCK_S
    stop = threading.Event()
    listener = threading.Thread(target=listen, args=(url, stop), daemon=True)
    listener.start()
    while time.monotonic() < until:
        took_ms = timed(
            lambda: (get(f"{url}/runs/{run_id}"), get(f"{url}/runs/{run_id}/curves.json"))
        )
        pause_s = min(max(SHARE * took_ms / 1e3, LEAST_S), MOST_S)
        time.sleep(max(0.0, min(pause_s, until - time.monotonic())))
    stop.set()


def listen(url: str, stop: threading.Event) -> None:
    """Read events until told to stop."""
    with urllib.request.urlopen(f"{url}/events", timeout=60) as stream:
        while not stop.is_set() and stream.readline():
            pass


if __name__ == "__main__":
    main()
