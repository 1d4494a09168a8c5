"""The blocks of README, tutorials and how-to guides run over a small fleet."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main
from tests.fleet import wait_until
from tests.menagerie import make_classes
from tests.page_blocks import Reader, blocks_of
from tests.paths import REPOSITORY
from tests.spectra import make_spectra
from tests.topics import write_topics
from tests.unit.metafleet.encoders.tiny_models import write_open_clip
from tests.vision_libraries import use_vision_libraries

DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
TUTORIALS = [f"tutorials/{name}.md" for name in ("first-run", "first-data", "first-algorithm")]
GUIDES = [
    *("own-folders", "using-models", "scripts", "learners", "modules", "own-data", "own-kinds"),
    *("uncertainty", "serving", "several-labels", "without-a-run", "encoders", "finding-runs"),
    *("names", "comparing-runs", "runs-from-python", "sweeping", "tensorboard", "reports"),
    *("pruning", "reproducing", "logs", "dashboard", "monitoring", "mlflow", "suggesting"),
]
READINGS = {
    "README": [README],
    "tutorials": [DOCS / name for name in TUTORIALS],
    **{name: [DOCS / "how-to" / f"{name}.md"] for name in GUIDES},
}
"""What one reader reads, page after page, in one home folder."""

REASONS = re.compile(
    r"needs (docker|a second host|a GPU)$|installs everything and trains for minutes"
)
PACKAGES = {"lab": "", "mymods": "own_module", "spectra": "own_kind"}
PACKAGES |= {"pendulums": "pendulum", "automata": "automata"}
SHORT = "outer.steps=3 outer.meta_batch_size=4 validation.every=0 test.episodes=6"
QUICK = "outer.steps=4 validation.every=2 validation.episodes=4 test.episodes=6"
SMALL = "image.side=16 audio.sample_rate_hz=8000 audio.duration_s=0.5 audio.n_mels=16"
MORE = {
    "submit": [word for key in SHORT.split() for word in ("--set", key)],
    "sweep": ["--trials", "3", *(word for key in QUICK.split() for word in ("--set", key))],
    "data import": [word for key in SMALL.split() for word in ("--set", key)],
    "evaluate": ["--episodes", "6"],
    # so few that label sets of the coverages on the pages have every label: items to ask about
    "adapt": ["--calibration-episodes", "8"],
    "export": ["--calibration-episodes", "8"],
}
SAYS = {
    "encoders": "modality    image 12,",
    "modules": "12 items with a known class",
    "own-data": "meta_train  52 classes, 1,040 items, 20 a class",
    "own-kinds": "spectrum 64x1, 40 items have it",
    "several-labels": "over 30 items with known labels",
    "using-models": "12 items with a known class",
    "uncertainty": "12 of 12 items to ask a person about",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with what the pages suppose to be there."""
    home = tmp_path_factory.mktemp("reader")
    for name in ("pets", "pictures"):
        make_classes(home / name, range(12), n_items=4, seed=1)
        make_classes(home / f"new-{name}", range(12, 14), n_items=4, seed=2)
    make_classes(home / "photos", range(12, 14), n_items=6, seed=3)
    for path in (*(home / "pictures").rglob("*"), *(home / "new-pictures").rglob("*")):
        if path.suffix in (".wav", ".txt"):
            path.unlink()
    use_vision_libraries()
    write_open_clip(home / "clip")
    make_spectra(home / "minerals", range(10), items=4)
    make_spectra(home / "new-minerals", range(10, 12), items=3)
    make_spectra(home / "unknown", range(10, 12), items=4)
    write_topics(home / "topics.csv", range(16), n_items=300, seed=1)
    write_topics(home / "new-topics.csv", range(16, 20), n_items=16, seed=2)
    write_topics(home / "more-topics.csv", range(16, 20), n_items=30, seed=3)
    (home / "observed.csv").write_text("time_s,y\n0.1,1.0\n0.5,0.4\n0.9,-0.5\n1.4,-0.8\n")
    (home / "later.csv").write_text("time_s\n2.1\n2.5\n2.9\n")
    for name in ("examples", "experiments"):
        (home / name).symlink_to(REPOSITORY / name)
    return home


@pytest.fixture(scope="module")
def up(home: Path) -> Iterator[None]:
    """`metafleet up --workers 2`, as every page has it, with all packages of the pages."""
    folders = [REPOSITORY / "examples" / name for name in PACKAGES.values() if name]
    environment = {
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, home, *folders))),
        "METAFLEET_ALLOWED_PACKAGES": ",".join(PACKAGES),
        "METAFLEET_HOST_CACHE_DIR": str(home / "host-cache"),
    }
    others = {name: value for name, value in os.environ.items() if name != "METAFLEET_HOME"}
    log = (home / "up.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "metafleet.orchestrator", "up", "--workers", "2"],
        env=others | environment,
        stdout=log,
        stderr=log,
    )
    try:
        wait_until((home / ".metafleet" / "stack.json").exists, "the stack of metafleet up")
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def reader(home: Path, up: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("METAFLEET_HOME", raising=False)
    monkeypatch.setenv("METAFLEET_HOST_CACHE_DIR", str(home / "host-cache"))
    monkeypatch.chdir(home)
    monkeypatch.setenv("PWD", str(home))
    there = {*home.iterdir(), home / "host-cache"}
    monkeypatch.setattr("metafleet.data.decoding.registry._imported", {})
    reader = Reader(monkeypatch, MORE)
    yield reader
    reader.close()
    for path in {*home.iterdir()} - there | {*home.glob(".metafleet/data/imported")}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


@pytest.mark.parametrize("name", READINGS)
def test_every_block_runs(name: str, reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    for page in READINGS[name]:
        reader.read(page)

    told = capsys.readouterr()
    assert SAYS.get(name, "") in told.out + told.err
    if reader.submitted:
        shas = []
        for where in ([], ["--in-process"]):
            assert main([*reader.submitted, "--json", *where]) == 0
            shas.append(json.loads(capsys.readouterr().out.splitlines()[-1])["checkpoint_sha256"])
        assert shas[0] == shas[1]


def test_blocks_are_left_out_for_a_reason_only() -> None:
    read = {page for pages in READINGS.values() for page in pages}
    read.add(DOCS / "tutorials" / "second-machine.md")  # test_second_machine.py
    for page in [README, *DOCS.glob("tutorials/*.md"), *DOCS.glob("how-to/*.md")]:
        blocks = list(blocks_of(page))
        left_out = [block for block in blocks if block.left_out]
        assert page in read or left_out == blocks, page
        assert all(REASONS.match(block.left_out) for block in left_out), page
