"""The documentation site builds without a warning, and its pages need no other host."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.paths import REPOSITORY

_LOADED = re.compile(r"""<(?:script|img|link)[^>]* (?:src|href)="?([^" >]+)""")


def test_the_site_builds_without_warnings_and_asks_no_other_host(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = _LOADED.findall(page.read_text())
        assert loaded
        assert not [url for url in loaded if "//" in url], page
