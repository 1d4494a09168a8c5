"""Writes all generated pages: ``python -m tests.pages``."""

from tests.pages import PAGES

for path, render in PAGES.items():
    path.write_text(render())
