"""A wheel from the sdist collides with no other package, and is hidden by none."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fleet import ROOT

THEIRS = ("workers", "db", "contracts", "orchestrator", "experiments")
TRACKED = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    files = subprocess.run(TRACKED, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    source.mkdir()
    # from a copy: a build leaves folders behind
    subprocess.run(
        ["tar", "-c", "--null", "-T", "-", "-f", str(folder / "source.tar")],
        cwd=ROOT,
        check=True,
        input=files,
    )
    subprocess.run(["tar", "-xf", str(folder / "source.tar")], cwd=source, check=True)
    program = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True, timeout=300)
    (found,) = folder.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(sdist)],
        check=True,
        timeout=300,
    )
    (found,) = folder.glob("*.whl")
    return found


def test_the_sdist_is_the_repository(sdist: Path) -> None:
    tracked = subprocess.run(TRACKED, cwd=ROOT, check=True, capture_output=True, text=True)
    # files alone: setuptools follows the links in metafleet/
    files = {name for name in tracked.stdout.split("\0") if (ROOT / name).is_file()}

    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}

    assert "tests/fleet.py" in files
    assert files <= packed


def test_it_has_one_top_level_name_and_all_that_code_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"metafleet"}
    for needed in (
        "orchestrator/cli/main.py",
        "workers/app.py",
        "contracts/ledger.py",
        "contracts/lua/commit.lua",
        "db/migrations/env.py",
        "db/migrations/script.py.mako",
        "experiments/demo.toml",
        "py.typed",
        "data/sets/clinc150_domains.json",
    ):
        assert f"metafleet/{needed}" in names


def test_next_to_packages_of_our_folders_names_both_work(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in THEIRS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("theirs = True\n")
    program = (
        "import contracts, db, experiments, metafleet.db.engine, metafleet.workers.caches\n"
        "import orchestrator, workers\n"
        "from metafleet.orchestrator.cli.main import main\n"
        f"assert metafleet.db.engine.__file__.startswith({str(site)!r})\n"
        "assert all(m.theirs for m in (contracts, db, experiments, orchestrator, workers))\n"
        f"assert metafleet.db.engine.upgrade('sqlite:///{tmp_path}/x.db').is_current\n"
        "main(['--help'])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "METAFLEET_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "submit" in done.stdout
