"""From a table with several labels an item to the labels of others; and what is refused."""

import csv
import json
from pathlib import Path

import pytest

from metafleet.orchestrator.cli.main import main
from tests.topics import write_topics

EXPERIMENT = """
name = "topics"
[data]
name = "folder"
imported = "topics"
[episodes]
n_way = 3
k_shot = 2
n_query = 3
[model]
name = "ngram_bag"
[learner]
name = "multilabel_protonet"
[outer]
steps = 6
meta_batch_size = 4
lr = 3e-3
[validation]
every = 3
episodes = 4
[test]
episodes = 6
"""


@pytest.fixture(name="home")
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_topics(tmp_path / "topics.csv", range(14), n_items=250, seed=1)
    write_topics(tmp_path / "new.csv", range(14, 18), n_items=16, seed=2)
    write_topics(tmp_path / "more.csv", range(14, 18), n_items=20, seed=3)
    (tmp_path / "topics.toml").write_text(EXPERIMENT)
    assert main(["data", "import", "topics.csv", "--label-separator", ";"]) == 0
    return tmp_path


def test_a_table_of_several_labels_is_learned_judged_adapted_to_and_predicted(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "topics.toml", "--in-process"]) == 0
    told = capsys.readouterr()
    assert "mean average precision (95 %)" in told.out and "accuracy" not in told.out + told.err
    assert "chance" not in told.out and "without meta-training" in told.out

    judge = ["evaluate", "latest", "--in-process", "--episodes", "5", "--baselines"]
    assert main([*judge, "--json"]) == 0
    judged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["label"] for one in judged] == ["trained", "initialisation"]
    assert all(one["metric"] == "mean average precision" for one in judged)
    # three labels, of which a third or more have each: a random order has less than 0.7
    assert all(0.8 < one["accuracy"] <= 1.0 for one in judged)

    assert main(["adapt", "latest", "--support", "new.csv", "--out", "new.model"]) == 0
    told = capsys.readouterr()
    assert "4 labels; items that have them:" in told.out
    assert "not calibrated" not in told.err and "not kept" not in told.err
    assert "mean average precision" in (home / "new.model" / "README.md").read_text()
    asked = ["predict", "new.model", "more.csv", "--threshold", "0.4", "--out", "labels.csv"]
    assert main(asked) == 0
    assert "over 20 items with known labels" in capsys.readouterr().err
    with (home / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        shares = {name: float(row[f"p({name})"]) for name in ("topic14", "topic15", "topic16")}
        assert {name for name in shares if name in row["labels"].split(";")} == {
            name for name, share in shares.items() if share >= 0.4
        }
    for refused, why in {
        ("predict", "new.model", "more.csv", "--ask", "queue.csv"): "several labels: leave them",
        ("adapt", "new.model", "--correct", "queue.csv", "--out", "b.model"): "an item several",
    }.items():
        (home / "queue.csv").unlink(missing_ok=True)
        if refused[0] == "adapt":
            (home / "queue.csv").write_text("item,label\n")
        assert main([*refused]) == 1
        assert why in capsys.readouterr().err
        assert not (home / "b.model").exists()
    assert main(["runs", "show", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metric"] == "mean average precision"
    assert main(["runs", "show", "latest"]) == 0
    assert "mean average precision" in capsys.readouterr().out
    assert main(["runs", "curve", "latest", "--output", "curve.png"]) == 0


REFUSED = {
    "learner 'protonet' takes one class an item, but the data have several labels an item; choose "
    "one of 'anil'": ["submit", "topics.toml", "--in-process", "--set", "learner.name=protonet"],
    "no item has several labels: no label holds '|'": [
        *("data", "import", "topics.csv", "--name", "other", "--label-separator", "|")
    ],
    "shots='uneven', but data set 'topics' has several labels an item": [
        *("submit", "topics.toml", "--in-process", "--set", "episodes.shots=uneven")
    ],
    "n_way=9 but split 'meta_val' of 'topics' has 3 labels": [
        *("submit", "topics.toml", "--in-process", "--set", "episodes.meta_val.n_way=9")
    ],
    "label_separator='and'; expected up to 8 characters that are no letters": [
        *("data", "import", "topics.csv", "--name", "other", "--label-separator", "and")
    ],
}


@pytest.mark.parametrize("message", REFUSED, ids=lambda text: text[:20])
def test_what_does_not_fit_is_refused_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    capsys.readouterr()

    assert main(REFUSED[message]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if message in line]
    assert not [line for line in lines if "Traceback" in line]


def test_sigmoid_heads_learn_several_labels_and_uncertainty_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maml = ["learner.name=anil", "learner.inner_lr=0.1", "learner.inner_steps=2", "outer.steps=2"]
    sets = [word for one in maml for word in ("--set", one)]
    assert main(["submit", "topics.toml", "--in-process", *sets]) == 0
    assert "mean average precision" in capsys.readouterr().out

    assert main(["evaluate", "latest", "--in-process", "--uncertainty"]) == 1

    assert "--uncertainty is about one class an item" in capsys.readouterr().err
