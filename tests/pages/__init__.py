"""The pages and files written from the code: ``make pages`` writes them, a test compares them."""

from collections.abc import Callable
from pathlib import Path

from tests.pages import api, cli, configuration, defaults, experiments, results, settings
from tests.paths import REPOSITORY

PAGES: dict[Path, Callable[[], str]] = {
    REPOSITORY / "docs" / "reference" / "api.md": api.render,
    REPOSITORY / "docs" / "reference" / "cli.md": cli.render,
    REPOSITORY / "docs" / "reference" / "configuration.md": configuration.render,
    REPOSITORY / "docs" / "reference" / "results.md": results.render,
    REPOSITORY / "docs" / "reference" / "settings.md": settings.render,
    REPOSITORY / "experiments" / "README.md": experiments.render,
    defaults.DEFAULTS: defaults.render,
}
