"""Reports of real runs, and of runs that lack something."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunNotes, RunRepository
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.report.page import MOST_BYTES
from tests import runs
from tests.folders import OTHER_SEED
from tests.menagerie import make_classes

HOSTILE = "</pre><script>alert(1)</script>$\\frac{&\"'"
"""A note and an error that would be markup."""
CLASS = "<img src=x onerror=alert(1)>$\\frac{&"
"""The beginning of the names of classes."""


class _Page(HTMLParser):
    """Collects the elements of a page and all values that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


class _Home:
    """A home with runs on a folder of pictures, sounds and texts, and runs of regression."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.load(given={"METAFLEET_HOME": str(folder / "home")})
        make_classes(folder / "things", range(12), n_items=8, seed=1)
        for place in list((folder / "things").iterdir()):
            place.rename(place.with_name(f"{CLASS}{place.name}"))
        self.data = {
            "name": "folder",
            "path": str(folder / "things"),
            "split_seed": OTHER_SEED,
            "split_fractions": [0.34, 0.33, 0.33],
        }
        for seed in (1, 2):
            self.train(self.things(seed=seed))
        self.train(self.things(name="slow", seed=1, lr=0.0001))
        self.train(runs.config())

    def things(self, *, name: str = "things", seed: int, lr: float = 0.01) -> ExperimentConfig:
        return ExperimentConfig.from_json(
            {
                "name": name,
                "description": "Do <b>things</b> help?",
                "seed": seed,
                "data": self.data,
                "episodes": {"n_way": 3, "k_shot": 1, "n_query": 3, "missing_rate": 0.2},
                "model": {"name": "fusion"},
                "learner": {"name": "protonet"},
                "outer": {"steps": 4, "meta_batch_size": 2, "lr": lr},
                "validation": {"every": 2, "episodes": 4},
                "test": {"episodes": 8, "baselines": True},
                "engine": {"episodes_per_job": 2, "checkpoint_every": 2},
            }
        )

    def train(self, config: ExperimentConfig) -> None:
        runs.execute(self.settings, runs.new_run(self.settings, config), in_process=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Home]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BROKER_URL", "DATABASE_URL", "DATA_DIR", "HOME"):
            patch.delenv(f"METAFLEET_{name}", raising=False)
        yield _Home(tmp_path_factory.mktemp("report"))


@pytest.fixture
def home(trained: _Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Home:
    monkeypatch.setenv("METAFLEET_HOME", str(trained.settings.home))
    monkeypatch.chdir(tmp_path)
    return trained


def _report(*arguments: str) -> tuple[str, _Page]:
    assert main(["report", *arguments]) == 0
    text = Path("report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    page = _Page(text)
    assert all(value.startswith(("data:", "#")) for value in page.loads)
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';' in text
    return text, page


def test_a_report_of_a_group_over_seeds(home: _Home) -> None:
    _, page = _report("things", "--classes")
    assert "Do <b>things</b> help?" in page.text  # escaped, so it is text
    assert "With several seeds: mean over seeds" in page.text
    assert "nearest raw prototype" in page.text and "without meta-training" in page.text
    assert "3-way 1-shot, 3 query examples of each class, missing_rate = 0.2" in page.text
    assert page.text.count("as recorded") == 3 and "Not as recorded" not in page.text
    assert "The hardest classes over 8 episodes." in page.text
    assert "snell2017protonet" in page.text and "mensink2013ncm" in page.text
    assert "metafleet submit experiment-A.toml --seeds 1,2" in page.text
    assert any(value.startswith("data:image/png;base64,") for value in page.loads)
    with (
        Database.open(home.settings.database_url) as database,
        database.session(read_only=True) as session,
    ):
        found = RunRepository(session).get("things")
    assert found.checkpoint_sha256 and found.checkpoint_sha256 in page.text
    assert found.data_digest in page.text


def test_names_that_are_markup_are_text(home: _Home) -> None:
    with Database.open(home.settings.database_url) as database, database.session() as session:
        RunNotes(session).set_note(RunRepository(session).get("slow").id, HOSTILE)
    _, page = _report("slow", "--classes", "--episodes", "8")
    assert HOSTILE in page.text
    assert CLASS in page.text


def test_groups_are_compared_by_paired_tests(home: _Home) -> None:
    _, page = _report("things", "slow", "--compare", "--episodes", "0")
    assert "B: slow" in page.text and "8 episodes" in page.text and "outer.lr" in page.text
    assert re.search(r"seed \d is left out: only one of the two has it", page.text)
    assert "drawn again" not in page.text


def test_figures_and_tables_are_files(home: _Home, capsys: pytest.CaptureFixture[str]) -> None:
    _report("things", "--figures", "figures", "--classes")
    names = {path.name for path in Path("figures").iterdir()}
    charts = {"results", "training", "episodes"}
    assert {f"{name}.{suffix}" for name in charts for suffix in ("svg", "pdf", "png")} <= names
    tables = {"results", "seeds", "fleet", "digests", "hardest-A", "confused-A"}
    assert {f"{name}.{suffix}" for name in tables for suffix in ("csv", "tex")} <= names
    assert {"methods.bib", "experiment-A.toml"} <= names
    assert set(capsys.readouterr().out.split()) == {"report.html", *(f"figures/{n}" for n in names)}
    csv = Path("figures/results.csv").read_text().splitlines()
    assert csv[0] == "state,meta_test accuracy (95 %),seeds,episodes each"
    assert csv[1] == "chance,33.33 %,," and csv[-1].startswith("meta-trained,")
    latex = Path("figures/results.tex").read_text()
    assert r"\textbf{meta-trained}" in latex and r"meta\_test" in latex
    assert Path("figures/training.pdf").read_bytes().startswith(b"%PDF")


def test_the_written_experiment_and_row_repeat_the_run(home: _Home) -> None:
    _report("things", "--figures", "figures", "--episodes", "0")
    again = ExperimentConfig.load(Path("figures/experiment-A.toml"), ["seed=1"])
    assert again.to_json() == home.things(seed=1).to_json()
    (row, *_) = sorted(Path("figures").glob("run-*.json"))
    assert main(["reproduce", str(row), "--in-process"]) == 0


def test_regression_has_curves(home: _Home) -> None:
    _, page = _report("sinusoid", "--figures", "figures")
    assert "meta_test loss" in page.text and "as recorded" in page.text
    assert "5 points, 5 query examples" in page.text
    assert len(list(Path("figures").glob("episode-A-*.svg"))) == 3
    assert "mensink2013ncm" not in page.text


def test_a_run_without_a_test_shows_its_validations(home: _Home) -> None:
    home.train(runs.config(test={"episodes": 0}, validation={"every": 4, "episodes": 6}))
    _, page = _report("latest")
    assert "Results on meta_val." in page.text and "no meta-test of their own" in page.text


def test_a_run_that_failed_says_so(home: _Home) -> None:
    run = runs.new_run(home.settings, runs.config(outer={"steps": 12}))
    with Database.open(home.settings.database_url) as database, database.session() as session:
        RunRepository(session).mark_status(run.id, RunStatus.FAILED, error=f"boom {HOSTILE}")
    _, page = _report("latest")
    assert f"is failed after 0 of 12 outer steps: boom {HOSTILE}." in page.text
    assert "No run has finished an outer step." in page.text and "no result" in page.text


def test_without_the_data_no_episode_is_drawn(home: _Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLEET_DATA_DIR", str(Path("nothing").absolute()))
    hidden = Path(str(home.data["path"]))
    hidden.rename(hidden.with_name("elsewhere"))
    try:
        _, page = _report("slow")
    finally:
        hidden.with_name("elsewhere").rename(hidden)
    assert "No episode is drawn: " in page.text
    assert "meta-trained" in page.text


def test_without_the_checkpoint_no_episode_is_drawn(home: _Home) -> None:
    runs_dir = home.settings.runs_dir
    runs_dir.rename(runs_dir.with_name("away"))
    try:
        _, page = _report("slow")
    finally:
        shutil.rmtree(runs_dir, ignore_errors=True)
        runs_dir.with_name("away").rename(runs_dir)
    assert "No episode is drawn: " in page.text and "checkpoint" in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run 'nothing'"),
        (["things", "--compare"], "--compare with one group; expected two or more"),
        (["things", "things"], "both name run"),
        (["things", "--out", "no/report.html"], "no/report.html cannot be written (there is no"),
        (["things", "--out", "/dev/null"], "is no plain file"),
        (["things", "--figures", "plain.txt/x"], "plain.txt/x cannot be written (Not a directory)"),
    ],
)
def test_errors_are_one_line(
    home: _Home, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("plain.txt").write_text("")
    assert main(["report", *arguments, "--episodes", "0"]) in (1, 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not list(Path().glob(".part-*"))


def test_a_full_disk_keeps_the_old_report(
    home: _Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("report.html").write_text("old")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["report", "slow", "--episodes", "0"]) == 1
    error = capsys.readouterr().err
    assert "report.html cannot be written (No space left on device); make room" in error
    assert Path("report.html").read_text() == "old" and not list(Path().glob(".part-*"))


def test_a_result_other_than_the_recorded_one_is_marked(
    home: _Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metafleet.orchestrator.redraw.redraw import Redraw  # noqa: PLC0415 - imports torch

    draw = Redraw.draw

    def other(self: Redraw, index: int) -> Any:
        return replace(draw(self, index), recorded_accuracy=0.5, accuracy=0.25)

    monkeypatch.setattr(Redraw, "draw", other)
    _, page = _report("slow")
    assert "Not as recorded: accuracy 0.25 now, but 0.5 was recorded." in page.text
