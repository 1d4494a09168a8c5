"""Writes the generated pages: ``python -m tests.pages``, or only some: ``... results.md``."""

import sys

from tests.pages import PAGES

for path, render in PAGES.items():
    if len(sys.argv) == 1 or path.name in sys.argv[1:]:
        path.write_text(render())
