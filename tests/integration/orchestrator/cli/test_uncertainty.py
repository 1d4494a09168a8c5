"""Models that say how sure they are: calibrated where they are made, judged by `evaluate`."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from metafleet.orchestrator.cli.main import main
from tests.menagerie import make_classes

EXPERIMENT = """
name = "things"
data = { name = "folder", imported = "things" }
episodes = { n_way = 2, k_shot = 1, n_query = 2 }
model = { name = "fusion", dim = 8 }
learner = { name = "protonet" }
outer = { steps = 2, meta_batch_size = 2, lr = 1e-3 }
validation = { every = 0 }
test = { episodes = 2, baselines = false }
"""
FEW = ("--calibration-episodes", "12")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on pictures, and pictures of classes that it has not seen."""
    folder = tmp_path_factory.mktemp("uncertain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAFLEET_HOME", str(folder / "home"))
        patch.chdir(folder)
        for split, classes in (("train", range(6)), ("val", range(6, 11)), ("test", range(11, 15))):
            make_classes(folder / "things" / split, classes, n_items=5, seed=1)
        make_classes(folder / "new", range(20, 22), n_items=2, seed=2)
        make_classes(folder / "photos", range(20, 24), n_items=3, seed=3)
        (folder / "things.toml").write_text(EXPERIMENT)
        assert main(["data", "import", "things", "--set", "image.side=16"]) == 0
        assert main(["submit", "things.toml", "--in-process"]) == 0
    return folder


@pytest.fixture
def things(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLEET_HOME", str(trained / "home"))
    monkeypatch.chdir(trained)
    return trained


def _calibration(model: Path) -> list[tuple[int, int, int]]:
    shapes = json.loads((model / "model.json").read_text())["calibration"]["shapes"]
    return [(shape["n_way"], shape["k_shot"], shape["episodes"]) for shape in shapes]


def test_what_is_adapted_from_a_run_is_calibrated_for_its_ways_and_shots(
    things: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"

    assert main(["adapt", "latest", "--support", "new", "--out", str(out), *FEW]) == 0

    assert _calibration(out) == [(2, 2, 12)]
    told = capsys.readouterr().err
    assert "calibrated on meta_val: 2-way 2-shot, 12 episodes (temperature " in told


def test_what_is_exported_is_calibrated_for_what_may_come(things: Path, tmp_path: Path) -> None:
    exported, adapted = tmp_path / "e", tmp_path / "a"

    assert main(["export", "latest", "--out", str(exported), *FEW]) == 0
    assert main(["adapt", str(exported), "--support", "new", "--out", str(adapted)]) == 0

    # five validation classes of five items
    assert _calibration(exported) == [(2, 1, 12), (2, 4, 12), (5, 1, 12), (5, 4, 12)]
    assert _calibration(adapted) == _calibration(exported)


def test_a_model_may_be_left_without_calibration(things: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "m"), "--calibration-episodes", "0"]

    assert main(["adapt", "latest", "--support", "new", *out]) == 0

    assert "calibration" not in json.loads((tmp_path / "m" / "model.json").read_text())


def _judged(capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    command = ["evaluate", "latest", "--in-process", "--episodes", "6", "--uncertainty", *FEW]
    capsys.readouterr()
    assert main([*command, "--json", *more]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_evaluate_judges_each_shape_and_coverage(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--coverage", "0.8", "--coverage", "0.95", "--shape", "2x1", "--shape", "4x2")

    accuracy, *found = _judged(capsys, *asked)

    assert accuracy["label"] == "trained"
    assert [(e["label"], e["n_way"], e["k_shot"]) for e in found] == [
        ("uncertainty", 2, 1),
        ("uncertainty", 4, 2),
    ]
    for each in found:
        assert [c["asked"] for c in each["coverage"]] == [0.8, 0.95]
        assert len(each["reliability"]) == 15
        assert sum(b["answers"] for b in each["reliability"]) == 6 * each["n_way"] * 2
        assert 0 <= each["ece"] <= 1
    assert found[0]["unknown"]["n_unknown"] == 2
    assert found[1]["unknown"] is None  # four classes for testing
    assert found[1]["calibrated_on"] == "meta_val, 4-way 2-shot, 12 episodes"
    assert _judged(capsys, *asked) == [accuracy, *found]


def test_the_number_of_unknown_classes_is_an_option_of_episodes(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _judged(capsys, "--set", "episodes.n_unknown=1")[1]["unknown"]["n_unknown"] == 1
    assert _judged(capsys, "--set", "episodes.n_unknown=0")[1]["unknown"] is None


def test_people_see_tables_and_where_the_promise_ends(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "latest", "--in-process", "--episodes", "6", "--uncertainty", *FEW]
    capsys.readouterr()

    assert main([*command, "--shape", "2x1", "--shape", "4x1"]) == 0

    shown = capsys.readouterr().out
    for text in ("ECE", "reliability, 2-way 1-shot", "label sets", "AUROC", "no classes left"):
        assert text in shown
    promise = "coverage is promised for episodes drawn like those it was calibrated on"
    assert promise in shown

    assert main([*command, "--split", "meta_val", "--shape", "2x1"]) == 0

    shown = capsys.readouterr().out
    assert "these are the classes that it was calibrated on" in shown and promise not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coverage", "1"], "'1'; expected a number between 0 and 1, such as 0.9"),
        (["--coverage", "nan"], "'nan'; expected a number between 0 and 1"),
        (["--coverage", "most"], "'most'; expected a number between 0 and 1"),
        (["--shape", "5"], "'5'; expected WAYSxSHOTS, such as 5x1"),
        (["--shape", "1x1"], "'1x1'; expected WAYSxSHOTS"),
        (["--shape", "9x1"], "n_way=9 but split 'meta_test' of 'things' has 4 classes"),
        (["--calibration-episodes", "0"], "expected 1 or more"),
        (["--set", "episodes.n_unknown=-1"], "n_unknown=-1"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(
    things: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    capsys.readouterr()

    code = main(["evaluate", "latest", "--in-process", "--episodes", "4", "--uncertainty", *words])

    error = capsys.readouterr().err
    assert code in (1, 2)
    assert message in error
    assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1
    assert "is judged" not in error  # before anything was computed


@pytest.mark.parametrize(
    "words", [["--coverage", "0.8"], ["--shape", "2x1"], ["--calibration-episodes", "9"]]
)
def test_an_option_of_uncertainty_alone_is_refused(
    things: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    capsys.readouterr()

    assert main(["evaluate", "latest", "--in-process", *words]) == 1

    error = capsys.readouterr().err
    assert error == f"error: {words[0]} goes with --uncertainty; add --uncertainty\n"


def test_without_a_fleet_evaluate_names_the_option_that_needs_none(
    things: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAFLEET_BROKER_URL", raising=False)
    capsys.readouterr()

    assert main(["evaluate", "latest", "--uncertainty"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("or give --in-process to compute here without a fleet")


@pytest.fixture(scope="module")
def model(trained: Path) -> Path:
    """A model of two new classes, calibrated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAFLEET_HOME", str(trained / "home"))
        patch.chdir(trained)
        assert main(["adapt", "latest", "--support", "new", "--out", "new.model", *FEW]) == 0
    return trained / "new.model"


def test_predictions_have_label_sets_unknown_items_and_a_verdict(
    things: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()

    assert main(["predict", str(model), "photos", "--coverage", "0.7", "--unknown"]) == 0

    shown = capsys.readouterr()
    rows = list(csv.DictReader(shown.out.splitlines()))
    assert len(rows) == 12
    for row in rows:
        labels = row["labels"].split(" | ") if row["labels"] else []
        is_sure = len(labels) == 1 and row["unknown"] == "no"
        assert row["verdict"] == ("accept" if is_sure else "ask a person")
    n_asked = sum(row["verdict"] != "accept" for row in rows)
    assert f"{n_asked} of 12 items to ask a person about" in shown.err
    assert "a folder of yours, it is a guide and no promise" in shown.err


def test_a_model_without_calibration_predicts_and_refuses_doubts_in_one_line(
    things: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = str(tmp_path / "plain")
    no = ("--calibration-episodes", "0")
    assert main(["adapt", "latest", "--support", "new", "--out", plain, *no]) == 0
    assert main(["predict", plain, "photos"]) == 0
    for asked in (["--coverage", "0.9"], ["--unknown"]):
        capsys.readouterr()
        assert main(["predict", plain, "photos", *asked]) == 1
        error = capsys.readouterr().err
        assert "the model has no calibration" in error
        assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1


def _fill(queue: Path, label: str) -> int:
    """Write a label into every row of a queue, as a person would."""
    with queue.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with queue.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": label} for row in rows)
    return len(rows)


def test_a_queue_that_a_person_filled_in_is_learned(
    things: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, better = tmp_path / "queue.csv", tmp_path / "better.model"
    asked = ["predict", str(model), "photos", "--out", str(tmp_path / "labels.csv")]
    assert main([*asked, "--coverage", "0.999", "--ask", str(queue)]) == 0
    assert f"metafleet adapt {model} --correct {queue} --out NEW-MODEL" in capsys.readouterr().err
    rows = list(csv.DictReader(queue.read_text().splitlines()))
    assert [float(row["probability"]) for row in rows] == sorted(
        float(row["probability"]) for row in rows
    )
    n_rows = _fill(queue, "thing20")

    # twelve episodes say nothing of 0.999, so all twelve items are in doubt
    assert n_rows == 12
    assert main(["adapt", str(model), "--correct", str(queue), "--out", str(better)]) == 0
    assert main(["predict", str(better), "photos"]) == 0
    header = json.loads((better / "model.json").read_text())
    assert header["classes"] == [["thing20", 14], ["thing21", 2]]

    refused = {
        "queue.csv exists": [*asked[:3], "--ask", str(queue)],
        "is no .csv": [*asked[:3], "--ask", str(tmp_path / "q.txt")],
        "there is no file": ["adapt", str(model), "--correct", "nowhere.csv", "--out", "x"],
        "give --support FOLDER, or of an adapted MODEL": ["adapt", str(model), "--out", "x"],
        "there is no model at latest": ["adapt", "latest", "--correct", str(queue), "--out", "x"],
        "--batch-norm makes another model": [
            *["adapt", str(model), "--correct", str(queue), "--out", "x"],
            *["--batch-norm", "support"],
        ],
    }
    for message, command in refused.items():
        capsys.readouterr()
        assert main(command) == 1, command
        error = capsys.readouterr().err
        assert message in error
        assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1
    assert not (things / "x").exists()


@pytest.mark.parametrize("spelling", ["q.csv", "{cwd}/q.csv", "sub/../q.csv", "link/q.csv"])
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["new", "force"])
def test_predictions_and_queue_may_not_be_one_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spelling: str,
    force: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    if force:
        (tmp_path / "q.csv").write_text("kept")
    ask = spelling.format(cwd=tmp_path)

    code = main(["predict", "m.model", "photos", "--out", "q.csv", "--ask", ask, *force])

    assert code == 1
    assert f"--out q.csv and --ask {ask} are the same file" in capsys.readouterr().err
    assert not force or (tmp_path / "q.csv").read_text() == "kept"


def test_a_support_set_and_a_queue_are_learned_together(
    things: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, bare, queue, out = (str(tmp_path / n) for n in ("alone", "bare", "queue.csv", "out"))
    apart = ("--batch-norm", "support", "--out", alone)
    assert main(["adapt", "latest", "--support", "new", *apart, *FEW]) == 0
    assert main(["export", str(model), "--without-support", "--out", bare]) == 1
    assert "with batch norm 'transductive' reads its support set" in capsys.readouterr().err
    assert main(["export", alone, "--without-support", "--out", bare]) == 0
    assert main(["predict", bare, "photos", "--coverage", "0.999", "--ask", queue]) == 0
    n_rows = _fill(Path(queue), "thing21")

    assert main(["adapt", bare, "--correct", queue, "--out", out]) == 1
    assert "keeps no support set" in capsys.readouterr().err
    assert main(["adapt", bare, "--support", "new", "--correct", queue, "--out", out]) == 0

    header = json.loads(Path(out, "model.json").read_text())
    assert header["classes"] == [["thing20", 2], ["thing21", 2 + n_rows]]
