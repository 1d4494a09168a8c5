"""The example runs, is typed, and is short."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.paths import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "plain_loop.py"


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_learns_and_saves(tmp_path: Path) -> None:
    file = tmp_path / "sine.safetensors"

    printed = run(str(EXAMPLE), "--steps", "60", "--save", str(file))

    before, after = (re.search(rf"{w}: ([\d.]+)", printed) for w in ("before", "after"))
    assert before is not None
    assert after is not None
    assert float(after[1]) < float(before[1])
    assert file.is_file()
    assert len(EXAMPLE.read_text().splitlines()) < 100


def test_the_example_is_typed_strictly_against_the_public_names(tmp_path: Path) -> None:
    assert (REPOSITORY / "metafleet" / "py.typed").is_file()
    config = tmp_path / "mypy.ini"
    # reading torch's own types takes four times as long as all the rest
    config.write_text(
        "[mypy]\nstrict = true\ndisallow_subclassing_any = false\nfollow_imports = silent\n"
        "[mypy-torch.*]\nfollow_imports = skip\n"
    )
    run("-m", "mypy", "--config-file", str(config), str(EXAMPLE))
