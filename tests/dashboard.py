"""A dashboard in the process of the test, and a headless Chromium that looks at it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.orchestrator.dashboard.app import make_app, make_site
from metafleet.orchestrator.dashboard.guard import HostNames
from metafleet.orchestrator.dashboard.serving import DashboardServer, served_by
from metafleet.orchestrator.dashboard.site import Site
from metafleet.orchestrator.dashboard.trying.trial import Trial
from metafleet.orchestrator.redraw.drawer import Drawer
from metafleet.orchestrator.web.listening import listen
from tests.paths import REPOSITORY

expect.set_options(timeout=20_000)  # pages of a busy machine are repeated less often

AXE = REPOSITORY / "tests" / "vendored" / "axe" / "axe.min.js"
WIDE, NARROW = {"width": 1300, "height": 900}, {"width": 360, "height": 740}


@dataclass(frozen=True)
class Served:
    """A dashboard that serves; ``url`` has no slash at its end."""

    url: str
    site: Site
    database: Database
    drawer: Drawer


@contextmanager
def serve(
    database: Database,
    settings: Settings,
    *,
    password: str = "",
    port: int = 0,
    trial: Trial | None = None,
) -> Iterator[Served]:
    """Serve a dashboard in a thread for as long as the block runs."""
    site = make_site(database, settings, password=password, trial=trial)
    listener = listen("127.0.0.1", port)
    app = make_app(site, HostNames.of("127.0.0.1"))
    server = DashboardServer(app, site.hub)
    with served_by(server, listener):
        yield Served(
            f"http://127.0.0.1:{listener.getsockname()[1]}", site, database, app.state.drawer
        )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"METAFLEET_HOME": str(tmp_path)})


@pytest.fixture
def served(settings: Settings) -> Iterator[Served]:
    """A dashboard without a password, over a new SQLite file."""
    with Database.open(settings.database_url) as database, serve(database, settings) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One headless Chromium for a file; skipped where none is installed, except in CI."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None and not os.environ.get("CI"):
        pytest.skip("chromium is not installed; `apt install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty tab. An error in a script, or something that the policy blocks, fails the test."""
    context = browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    page = context.new_page()
    problems = watch_problems(page)
    yield page
    context.close()
    assert problems == []


def watch_problems(page: Page) -> list[str]:
    """Collect errors of a page's scripts and what its security policy blocked."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security" in message.text else 0,
    )
    return problems


def check_page(page: Page, url: str, ready: Callable[[Page], Any] = lambda page: None) -> None:
    """Open a page in light, dark and at 360 px; no axe violation, nothing wider than the screen.

    Args:
        page: a tab.
        url: the page's address.
        ready: waits until the page is complete.
    """
    for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", NARROW)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.goto(url)
        expect(page.locator("h1")).to_be_visible()
        ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        found = violations(page)
        assert found == [], "\n".join(found)


def violations(page: Page) -> list[str]:
    """Return the violations that axe finds: rule, and the elements' selectors."""
    page.evaluate(AXE.read_text())  # not as a script element, which the page's policy refuses
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
