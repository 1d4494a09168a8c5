"""Evaluating a run on other episodes than its own: refusals, and the result's label."""

from pathlib import Path

import pytest

from metafleet import Client
from metafleet.orchestrator.cli.main import main
from tests.menagerie import make_classes

EXPERIMENT = """
name = "things"
data = { name = "folder", imported = "things" }
episodes = { n_way = 2, k_shot = 1, n_query = 1 }
model = { name = "fusion", dim = 8 }
learner = { name = "protonet" }
outer = { steps = 1, meta_batch_size = 2, lr = 1e-3 }
validation = { every = 1, episodes = 2 }
test = { episodes = 2, baselines = false }
"""


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment on imported pictures, in the working directory."""
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    make_classes(tmp_path / "things", range(6), n_items=4, seed=1)
    imported = ("import", str(tmp_path / "things"), "--name", "things", "--split", "hashed")
    assert main(["data", *imported, "--set", "image.side=16"]) == 0
    path = tmp_path / "things.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "{name='fusion', dim=8}",
            "class_text=true would need a model with class_text; run 1 was not trained with it; "
            "set class_text=false, or train a run with episodes.class_text=true",
        ),
        (
            "{name='conv4', channels=4, n_blocks=2}",
            "class_text=true shows names of classes that the model ignores: the model looks at "
            "'image' alone; set class_text=false, or learn with model.encoders.class_text of a "
            "fusion",
        ),
    ],
    ids=["grows", "looks away"],
)
def test_names_of_classes_are_not_shown_to_a_model_that_was_trained_without(
    things: Path, capsys: pytest.CaptureFixture[str], model: str, message: str
) -> None:
    assert main(["submit", str(things), "--in-process", "--set", f"model={model}"]) == 0
    command = ["evaluate", "latest", "--episodes", "2", "--in-process", "--baselines", "--set"]
    capsys.readouterr()

    assert main([*command, "episodes.class_text=true"]) == 1
    assert message in capsys.readouterr().err


def test_names_of_classes_that_no_encoder_looks_at_are_refused_before_there_is_a_run(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["submit", str(things), "--in-process", "--set", "episodes.class_text=true"]
    pictures = "model={name='fusion', dim=8, encoders={image={name='conv4', channels=4}}}"

    assert main([*command, "--set", pictures]) == 1

    err = capsys.readouterr().err
    assert "shows names of classes that the model ignores: the model looks at 'image' alone" in err
    assert main(["runs", "list"]) == 0
    assert "no runs yet" in capsys.readouterr().out


def test_a_model_that_was_trained_with_names_is_judged_with_and_without(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("--set", "episodes.meta_train.class_text=true")
    assert main(["submit", str(things), "--in-process", *names]) == 0
    command = ["evaluate", "latest", "--episodes", "2", "--in-process", "--set"]

    for shown in ("true", "false"):
        assert main([*command, f"episodes.class_text={shown}"]) == 0


def test_each_modality_is_judged_alone_and_left_out(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", str(things), "--in-process"]) == 0
    capsys.readouterr()

    command = ["evaluate", "latest", "--episodes", "3", "--in-process", "--modalities"]
    assert main([*command, "--baselines"]) == 0

    shown = capsys.readouterr().out
    assert shown.count("nearest raw prototype") == 1  # with all modalities only
    assert "meta-trained, modalities=audio+image" in shown
    with Client(home=things.parent / "home") as client:
        run = client.run("latest")
        rows = {row["shown"]: row for row in run.modalities()}
        label = "trained, modalities=image+text"
        pair = run.episodes(label=label)["accuracy"]
        judged = [e for e in run.evaluations() if e["label"] == label and e["episodes"] == 3]
    alone, pairs = {"audio", "image", "text"}, {"audio+image", "audio+text", "image+text"}
    assert rows.keys() == {"audio+image+text"} | alone | pairs
    assert rows["audio+image+text"]["missing"] == ""
    assert rows["image"]["missing"] == "audio+text" and rows["image+text"]["missing"] == "audio"
    assert len(pair) == 3
    assert rows["image+text"]["accuracy"] == judged[0]["accuracy"] == pytest.approx(sum(pair) / 3)


def test_a_model_of_one_modality_has_none_to_leave_out(
    things: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "model={name='conv4', channels=4, n_blocks=2}"
    assert main(["submit", str(things), "--in-process", "--set", model]) == 0
    capsys.readouterr()

    assert main(["evaluate", "latest", "--in-process", "--modalities"]) == 1
    assert capsys.readouterr().err == (
        "error: run 1 learned from 'image' alone; expected a model of several modalities, such as "
        "'fusion'; leave out --modalities\n"
    )
    assert main(["evaluate", "latest", "--in-process", "--inner-steps"]) == 1
    assert "learner 'protonet' has 0 inner steps" in capsys.readouterr().err
