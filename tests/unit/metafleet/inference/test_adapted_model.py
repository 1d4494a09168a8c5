"""Adapting to folders and predicting them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import metafleet
from metafleet.errors import ConfigError, DataError, DataMissingError
from metafleet.inference.adapted_model import batches
from metafleet.inference.items import ReadOptions, open_items
from metafleet.inference.prediction_file import write_predictions
from metafleet.inference.requirements import Needs
from metafleet.orchestrator.cli.main import main
from tests.menagerie import make_classes
from tests.unit.metafleet.inference.models import CONV, learned, regressor, support_of

FUSION = {
    "name": "fusion",
    "dim": 8,
    "batch_norm": "support",
    "encoders": {
        "image": {"name": "conv4", "channels": 4, "n_blocks": 2},
        "audio": {"name": "audio_conv", "channels": 4},
        "text": {"name": "ngram_bag"},
    },
}


SEEING = {name: FUSION["encoders"][name] for name in ("image", "text")}


@pytest.fixture(scope="module")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("support")
    make_classes(folder, range(0, 24, 8), n_items=3, seed=1)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    make_classes(folder, range(0, 24, 8), n_items=4, seed=2)
    return folder


def test_probabilities_are_the_softmax_of_what_the_learner_predicts() -> None:
    model = learned("image", learner={"name": "maml", "inner_lr": 0.01})
    support = support_of(model)
    inputs = {"image": torch.rand(4, 3, 8, 8)}

    found = model.adapt_to(support, {"a": 2, "b": 2, "c": 2}).predict(inputs)

    own = model.learned
    logits = own.learner.predict(own.state, support, inputs, 3)
    rows = [list(row.probabilities.values()) for row in found]
    torch.testing.assert_close(torch.tensor(rows), torch.softmax(logits, dim=1))
    assert [row.label for row in found] == ["abc"[i] for i in logits.argmax(dim=1)]
    assert [row.item for row in found] == ["0", "1", "2", "3"]


def test_items_that_lack_a_modality_are_predicted_from_the_others(
    support: Path, photos: Path
) -> None:
    base = learned("image", "audio", "text", model=FUSION)

    model = metafleet.adapt(base, support)
    found = model.predict(photos)

    assert model.needs.required == ()
    assert set(model.needs.optional) == {"image", "audio", "text"}
    assert len(found) == 12
    assert {row.item for row in found} >= {"thing00/000.png", "thing16/003.png"}
    assert all(abs(sum(row.probabilities.values()) - 1.0) < 1e-9 for row in found)


def test_a_modality_the_model_does_not_look_at_is_left_out_and_reported(
    support: Path, photos: Path
) -> None:
    model = learned("image").adapt(support)

    found = model.predict(photos)

    assert any("modality 'audio' is left out: the model looks at image" in n for n in found.notes)


def test_classes_that_lost_every_item_while_being_read_are_reported(
    support: Path, tmp_path: Path
) -> None:
    shutil.copytree(support, tmp_path / "s")
    for name, content in (("yak", b"not a png"), ("zebra", b"")):
        (tmp_path / "s" / name).mkdir()
        (tmp_path / "s" / name / "a.png").write_bytes(content)

    model = learned("image").adapt(tmp_path / "s", ReadOptions(skip_bad=True))

    assert len(model.classes) == 3
    for name in ("yak", "zebra"):
        assert f"class {name!r} is left out: none of its items can be used" in model.notes


def test_items_without_a_modality_the_model_needs_are_named_or_left_out(
    support: Path, tmp_path: Path
) -> None:
    make_classes(tmp_path / "new", range(2), n_items=3, seed=3)
    for item in ("000", "001"):
        (tmp_path / f"new/thing00/{item}.png").unlink()
    model = learned("image").adapt(support)

    with pytest.raises(DataError) as caught:
        model.predict(tmp_path / "new")
    found = model.predict(tmp_path / "new", ReadOptions(skip_bad=True))

    lines = str(caught.value).splitlines()
    assert [line[:11] for line in lines[:2]] == ["thing00/000", "thing00/001"]
    assert "has no 'image', which the model needs of every item" in lines[0]
    assert lines[2].endswith(
        "has 2 problems (2 missing-modality); fix them, or give --skip-bad to leave them out"
    )
    assert len(found) == 4
    assert [note for note in found.notes if note.startswith("left out")] == [
        f"left out: {line}" for line in lines[:2]
    ]


def test_items_with_nothing_the_model_looks_at_are_named_or_left_out(tmp_path: Path) -> None:
    make_classes(tmp_path, range(3), n_items=3, seed=1)
    for path in (tmp_path / "thing01/001.png", *tmp_path.glob("thing02/*.png")):
        path.unlink()
    base = learned("image", "text", model=FUSION | {"encoders": SEEING})
    for path in (tmp_path / "thing01/001.txt", *tmp_path.glob("thing02/*.txt")):
        path.unlink()
    (tmp_path / "thing02/002.wav").write_bytes((tmp_path / "thing02/000.wav").read_bytes())

    with pytest.raises(DataError, match=r"has none of image, text, and needs one(.|\n)*4 problems"):
        base.adapt(tmp_path)
    model = base.adapt(tmp_path, ReadOptions(skip_bad=True))

    assert dict(model.classes) == {"thing00": 3, "thing01": 2}
    assert "class 'thing02' is left out: none of its items can be used" in model.notes
    shutil.rmtree(tmp_path / "thing00")
    with pytest.raises(DataError, match="has 1 class, as no item of 'thing02' can be used; expect"):
        base.adapt(tmp_path, ReadOptions(skip_bad=True))


def test_a_modality_that_the_model_needs_and_no_item_has_is_reported_once(
    support: Path, tmp_path: Path
) -> None:
    base = learned("image", "text")
    needs = Needs(("image", "text"))
    make_classes(tmp_path, range(2), n_items=3, seed=1)
    for path in tmp_path.glob("*/*.png"):
        path.unlink()

    with (
        pytest.raises(DataError, match=r"^\S*: no item has 'image', which [^\n]*; fix it$"),
        open_items(
            tmp_path,
            base.learned.blueprint.inputs,
            needs,
            ReadOptions(skip_bad=True),
            is_labelled=True,
        ),
    ):
        pass


def test_a_folder_with_nothing_the_model_knows_is_refused(support: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("only words")
    model = learned("image").adapt(support)

    with pytest.raises(DataError, match="has text; the model reads image"):
        model.predict(tmp_path)


def test_tensors_of_an_unknown_modality_or_shape_are_refused(support: Path) -> None:
    model = learned("image").adapt(support)

    with pytest.raises(DataError, match="modality 'sound' is unknown"):
        model.predict({"image": torch.rand(2, 3, 8, 8), "sound": torch.rand(2, 5)})
    with pytest.raises(DataError, match=r"float32 \[2, 3, 9, 9\]; expected float32 \[n, 3, 8, 8\]"):
        model.predict({"image": torch.rand(2, 3, 9, 9)})
    with pytest.raises(DataError, match="modality 'image' is missing"):
        model.predict({"image.present": torch.ones(2)})
    with pytest.raises(DataError, match=r"'image' has 2, 'image\.present' has 3"):
        model.predict({"image": torch.rand(2, 3, 8, 8), "image.present": torch.ones(3)})


def test_a_head_of_fixed_size_says_how_many_classes_it_takes(tmp_path: Path) -> None:
    make_classes(tmp_path, range(2), n_items=3, seed=1)
    model = learned("image", learner={"name": "maml"})

    with pytest.raises(
        ConfigError, match=r"has 2 classes, but learner 'maml' .* exactly 3 classes"
    ):
        model.adapt(tmp_path)


def test_a_class_without_an_example_is_named(tmp_path: Path) -> None:
    make_classes(tmp_path, range(2), n_items=2, seed=1)
    (tmp_path / "nothing").mkdir()

    with pytest.raises(DataError, match="class 'nothing': has no example"):
        learned("image").adapt(tmp_path)


def test_a_class_that_is_there_twice_is_named(tmp_path: Path) -> None:
    make_classes(tmp_path, range(2), n_items=2, seed=1)
    (tmp_path / "thing00").rename(tmp_path / "Thing01")

    with pytest.raises(DataError, match="class 'thing01' is there twice, also as 'Thing01'"):
        learned("image").adapt(tmp_path)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    make_classes(folder, range(1), n_items=2, seed=1)

    with pytest.raises(DataError, match=r"'.*one' has 1 class; expected 2 or more"):
        learned("image").adapt(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="there is no folder or file"):
        learned("image").adapt(tmp_path / "nowhere")


def test_a_broken_item_refuses_the_folder_unless_it_may_be_left_out(
    support: Path, tmp_path: Path
) -> None:
    make_classes(tmp_path / "new", range(2), n_items=2, seed=3)
    (tmp_path / "new/thing00/000.png").write_bytes(b"no picture")
    model = learned("image").adapt(support)

    with pytest.raises(DataError, match=r"000.png.*; fix it, or give --skip-bad to leave it out"):
        model.predict(tmp_path / "new")
    found = model.predict(tmp_path / "new", ReadOptions(skip_bad=True))

    assert len(found) == 3
    assert any(note.startswith("left out: ") for note in found.notes)


def test_all_that_is_broken_is_named_up_to_a_bound(support: Path, tmp_path: Path) -> None:
    make_classes(tmp_path / "new", range(2), n_items=2, seed=3)
    model = learned("image").adapt(support)
    for number in range(60):
        (tmp_path / f"new/thing00/x{number:02d}.png").write_bytes(b"no picture")
    (tmp_path / "new/thing01/001.png").unlink()

    with pytest.raises(DataError) as caught:
        model.predict(tmp_path / "new")

    lines = str(caught.value).splitlines()
    assert len(lines) == 52
    assert sum("[bad-image]" in line for line in lines) == 49
    assert lines[50] == "... and 11 more"
    assert "has 61 problems (60 bad-image, 1 missing-modality); fix them, or" in lines[51]


def test_another_batch_norm_makes_predictions_independent_of_each_other(support: Path) -> None:
    base = learned("image", model={**CONV, "batch_norm": "transductive"})
    inputs = torch.rand(6, 3, 8, 8)

    def together(model: metafleet.AdaptedModel) -> bool:
        alone = model.logits({"image": inputs[:2]})
        return torch.allclose(alone, model.logits({"image": inputs})[:2], atol=1e-5)

    assert not together(base.adapt(support))
    assert together(base.with_batch_norm("support").adapt(support))
    assert together(metafleet.adapt(base, support, batch_norm="support"))
    with pytest.raises(ConfigError, match="needs running averages, which training"):
        base.with_batch_norm("running")


@pytest.mark.parametrize("trained", ["support", "transductive"])
def test_adapt_says_which_batch_norm_is_used_and_nothing_of_training(
    trained: str, support: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = tmp_path / "base", str(tmp_path / "m")
    learned("image", model={**CONV, "batch_norm": trained}).save(base)
    asked = ["adapt", str(base), "--support", str(support), "--out", out]

    assert main([*asked, "--batch-norm", "transductive"]) == 0

    told = capsys.readouterr().err
    assert "batch_norm is 'transductive': what is predicted for an item" in told
    assert "in training" not in told
    assert main([*asked, "--batch-norm", "support", "--force"]) == 0
    assert "batch_norm" not in capsys.readouterr().err


def test_a_function_is_learned_from_a_table_and_its_values_predicted(tmp_path: Path) -> None:
    (tmp_path / "support.csv").write_text("x,y\n0.5,1.0\n-1,0.25\n2,-3\n")
    (tmp_path / "asked.jsonl").write_text('{"x": 0.25}\n\n{"x": -2}\n')
    base = regressor()
    base.adapt(tmp_path / "support.csv").save(tmp_path / "model")

    found = metafleet.load_model(tmp_path / "model").predict(tmp_path / "asked.jsonl")

    own = base.learned
    support = metafleet.ExampleSet(
        {"x": torch.tensor([[0.5], [-1.0], [2.0]])}, torch.tensor([[1.0], [0.25], [-3.0]])
    )
    values = own.learner.predict(own.state, support, {"x": torch.tensor([[0.25], [-2.0]])}, 0)
    torch.testing.assert_close(torch.tensor([row.values for row in found]), values)
    assert [row.item for row in found] == ["asked.jsonl:1", "asked.jsonl:3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,z\n1,2\n", "points.csv:2 has no column 'y'; its columns are: x, z"),
        ("x,y\n1,two\n", "points.csv:2: y='two'; expected a finite number"),
        ("x,y\n1,nan\n", "points.csv:2: y='nan'; expected a finite number"),
        ("x,y\n1\n", "points.csv:2: has 1 fields where the header has 2"),
        ("x,y\n", "has no row; expected columns x, y"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)

    with pytest.raises(DataError) as caught:
        regressor().adapt(path)

    assert message in str(caught.value)


def test_predictions_are_written_as_csv_and_json_lines(
    support: Path, photos: Path, tmp_path: Path
) -> None:
    found = learned("image").adapt(support).predict(photos)

    write_predictions(found.rows, tmp_path / "out.csv")
    write_predictions(found.rows, tmp_path / "out.jsonl")

    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "item,label,probability,given,p(thing00),p(thing08),p(thing16)"
    assert len(lines) == 13
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 12
    with pytest.raises(metafleet.ModelError, match="exists"):
        write_predictions(found.rows, tmp_path / "out.csv")
    with pytest.raises(metafleet.ModelError, match=r"neither \.csv nor \.jsonl"):
        write_predictions(found.rows, tmp_path / "out.txt")


def test_batches_are_of_nearly_equal_size() -> None:
    assert [len(rows) for rows in batches(257, 256)] == [128, 129]
    assert [len(rows) for rows in batches(1000, 256)] == [250] * 4
    assert [list(rows) for rows in batches(1)] == [[0]]


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"celery", "redis", "sqlalchemy", "pydantic", "click", "kombu"}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import metafleet
model = metafleet.adapt(sys.argv[1], sys.argv[2])
model.save(sys.argv[3])
model = metafleet.load_model(sys.argv[3])
print(len(model.predict(sys.argv[2])))
"""


def test_a_model_is_used_without_the_fleet_installed(support: Path, tmp_path: Path) -> None:
    learned("image").save(tmp_path / "learned")
    arguments = [str(tmp_path / "learned"), str(support), str(tmp_path / "model")]

    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "9"
