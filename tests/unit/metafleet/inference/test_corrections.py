"""What a person says of items is learned; what is no queue is refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from metafleet.calibration.calibration import Calibration, ShapeCalibration
from metafleet.calibration.conformal import N_LEVELS
from metafleet.encoders import registry
from metafleet.episode import CLASS_TEXT
from metafleet.episodes.class_names import name_bytes
from metafleet.errors import ConfigError, DataError, DataMissingError, MetafleetError, ModelError
from metafleet.inference import adapted_model
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.corrections import correct
from metafleet.inference.doubts import Doubt
from metafleet.inference.from_encoder import few_shot_model
from metafleet.inference.items import ReadOptions
from metafleet.inference.loading import adapt, load_model
from metafleet.inference.prediction import Prediction
from metafleet.inference.question_queue import Correction, read_queue, write_queue
from tests.unit.metafleet.inference.models import learned, regressor, support_of
from tests.unit.metafleet.inference.test_from_encoder import COLOURS as ENCODER
from tests.unit.metafleet.inference.test_from_encoder import Colours
from tests.unit.metafleet.inference.test_support_sets import named_model

CLASSES = ("blue", "green", "red")
COLOURS = {"blue": (20, 30, 230), "green": (20, 230, 30), "red": (230, 30, 20)}


def _picture(path: Path, colour: tuple[int, int, int], shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), tuple(max(0, part - shade) for part in colour)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two examples of each class, and photos of all, of which one is hard."""
    for name, colour in COLOURS.items():
        for number in range(2):
            _picture(tmp_path / "new" / name / f"{number}.png", colour, 5 * number)
        _picture(tmp_path / "photos" / f"{name}.png", colour, 20)
    _picture(tmp_path / "photos" / "odd.png", (120, 120, 20), 0)
    return tmp_path


@pytest.fixture
def model(folder: Path) -> AdaptedModel:
    thresholds = tuple(i / N_LEVELS for i in range(1, N_LEVELS))
    calibration = Calibration("meta_val", (ShapeCalibration(3, 2, 100, 2.0, thresholds),))
    base = learned("image", learner={"name": "protonet"})
    return adapt(base, folder / "new").with_calibration(calibration)


def _queue(path: Path, *rows: str, header: str = "item,label,folder") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_what_is_in_doubt_is_written_the_most_doubtful_first(tmp_path: Path) -> None:
    plain = Prediction("a.png", "cat", 0.9, {"cat": 0.9, "dog": 0.1}, doubt=Doubt(("cat",), False))
    rows = [
        plain,
        replace(plain, item="b.png", probability=0.6, doubt=Doubt(("cat", "dog"), False)),
        replace(plain, item="=c.png", probability=0.5, doubt=Doubt((), True)),
        replace(plain, item="d.png", probability=0.95, doubt=Doubt(("cat",), True)),
    ]

    n_asked = write_queue(rows, Path("/photos"), tmp_path / "q.csv", force=False)

    assert n_asked == 3
    assert (tmp_path / "q.csv").read_text().splitlines() == [
        "item,guess,probability,labels,unknown,label,folder",
        "'=c.png,cat,0.5,,yes,,/photos",
        "b.png,cat,0.6,cat | dog,no,,/photos",
        "d.png,cat,0.95,cat,yes,,/photos",
    ]
    with pytest.raises(ModelError, match=r"q\.csv exists"):
        write_queue(rows, Path("/photos"), tmp_path / "q.csv", force=False)
    with pytest.raises(ModelError, match=r"is no \.csv"):
        write_queue(rows, Path("/photos"), tmp_path / "q.txt", force=False)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_a_queue_is_read_as_spreadsheets_save_it(tmp_path: Path, delimiter: str, mark: str) -> None:
    path = tmp_path / "q.csv"
    lines = [
        ["item", "label", "folder", "note"],
        ["'=c.png", " Red ", "/a", "?"],
        ["d", "", "", ""],
        ["", "", "", ""],
    ]
    path.write_text(mark + "\r\n".join(map(delimiter.join, lines)) + "\r\n", encoding="utf-8")

    found, n_open = read_queue(path, CLASSES)

    assert found == [Correction("q.csv:2", "=c.png", "red", Path("/a"))]
    assert n_open == 1


BAD = {
    "an empty file": ("", "is empty; expected a header and rows"),
    "a header alone": ("item,label,folder\n", "has no row"),
    "no label column": ("item,folder\na,/b\n", "no column 'label'; expected item, guess"),
    "no item column": ("file,label,folder\na,red,/b\n", "no column 'item'"),
    "no labels": ("item,label,folder\na,,/b\n", "none of 1 rows has a label; write 'blue' or"),
    "a near label": ("item,label,folder\na,rde,/b\n", "q.csv:2: label 'rde' is no class of the"),
    "a nearer one": ("item,label,folder\na,rde,/b\n", "did you mean 'red'?"),
    "a far label": ("item,label,folder\na,x,/b\n", "no class of the model; expected 'blue' or"),
    "another separator": ("item,label,folder\na;red;/b\n", "separates fields by ';' where the"),
    "no name": ("item,label,folder\n,red,/b\n", "q.csv:2: has a label, but its column 'item'"),
    "no folder": ("item,label,folder\na,red,\n", "its column 'folder' is empty"),
    "two labels": (
        "item,label,folder\na,red,/b\na,blue,/b\n",
        "q.csv:3: item 'a' is 'blue' here and 'red' at q.csv:2",
    ),
    "a row too short": ("item,label,folder\na,red\n", "has 2 fields where the header has 3"),
}


@pytest.mark.parametrize("how", BAD)
def test_what_is_no_queue_is_refused_in_one_line(tmp_path: Path, how: str) -> None:
    content, expected = BAD[how]
    (tmp_path / "q.csv").write_text(content)

    with pytest.raises(DataError) as caught:
        read_queue(tmp_path / "q.csv", CLASSES)

    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_with_spaces_around_them_are_found_again(tmp_path: Path) -> None:
    classes = (" left", "right ", "both")
    queue = _queue(tmp_path / "q.csv", " a.png, left,/b ", "c.png,LEFT,/b ", "d.png,right ,/b ")

    found, n_open = read_queue(queue, classes)

    assert [(one.item, one.label, str(one.folder)) for one in found] == [
        (" a.png", " left", "/b "),
        ("c.png", " left", "/b "),
        ("d.png", "right ", "/b "),
    ]
    assert n_open == 0


def test_a_queue_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match=r"no file .*q\.csv"):
        read_queue(tmp_path / "q.csv", CLASSES)
    with pytest.raises(DataError, match=r"expected a \.csv file"):
        read_queue(_queue(tmp_path / "q.xlsx"), CLASSES)


def test_corrections_join_the_support_set_in_the_order_of_classes(
    model: AdaptedModel, folder: Path
) -> None:
    photos = folder / "photos"
    queue = _queue(folder / "q.csv", f"odd.png,red,{photos}", f"blue.png,blue,{photos}", "x,,")

    found = correct(model, queue)

    assert dict(found.classes) == {"blue": 3, "green": 2, "red": 3}
    assert found.support is not None and model.support is not None
    assert found.support.targets.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert found.notes[0].startswith("2 corrections, 1 rows of")
    by_hand = {name: folder / "whole" / name for name in CLASSES}
    for name, place in by_hand.items():
        for number in range(2):
            _picture(place / f"{number}.png", COLOURS[name], 5 * number)
    _picture(by_hand["red"] / "odd.png", (120, 120, 20), 0)
    _picture(by_hand["blue"] / "9.png", COLOURS["blue"], 20)
    expected = adapt(learned("image", learner={"name": "protonet"}), folder / "whole")
    for name, tensor in expected.memory.items():
        torch.testing.assert_close(found.memory[name], tensor, rtol=1e-5, atol=1e-5)


def test_copies_of_an_item_count_once_and_must_have_one_label(
    model: AdaptedModel, folder: Path
) -> None:
    photos = folder / "photos"
    _picture(photos / "copy.png", (120, 120, 20), 0)  # the same as odd.png
    same = _queue(folder / "same.csv", f"copy.png,red,{photos}", f"odd.png,red,{photos}")
    other = _queue(folder / "other.csv", f"copy.png,red,{photos}", f"odd.png,blue,{photos}")

    assert dict(correct(model, same).classes) == {"blue": 2, "green": 2, "red": 3}
    with pytest.raises(DataError, match=r"'copy\.png' and 'odd\.png' are copies of each other"):
        correct(model, other)


def test_what_was_learned_is_kept_and_may_be_corrected_again(
    model: AdaptedModel, folder: Path
) -> None:
    odd = f"odd.png,red,{folder / 'photos'}"
    correct(model, _queue(folder / "q.csv", odd)).save(folder / "m2")

    second = load_model(folder / "m2")
    assert isinstance(second, AdaptedModel)
    assert second.predict(folder / "photos").rows[2].item == "odd.png"
    again = correct(second, folder / "q.csv")
    other = correct(second, _queue(folder / "q2.csv", odd.replace("red", "green")))

    assert dict(second.classes) == dict(again.classes) == {"blue": 2, "green": 2, "red": 3}
    assert dict(other.classes) == {"blue": 2, "green": 3, "red": 2}


def test_the_name_of_a_class_follows_its_item(folder: Path) -> None:
    model = named_model().adapt(folder / "new")
    again = f"red/1.png,blue,{folder / 'new'}"

    found = correct(model, _queue(folder / "q.csv", again, f"odd.png,red,{folder / 'photos'}"))

    assert dict(found.classes) == {"blue": 3, "green": 2, "red": 2}
    assert found.support is not None
    names = torch.stack([name_bytes(CLASSES[n]) for n in found.support.targets.tolist()])
    assert torch.equal(found.support.inputs[CLASS_TEXT], names)
    twice = correct(found, folder / "q.csv")
    assert dict(twice.classes) == dict(found.classes)


@pytest.mark.parametrize(
    ("storage", "share", "is_same"),
    [
        ("float32", 1e-6, True),
        ("float32", -1e-6, True),
        ("float32", 1e-4, False),
        ("float16", 2.0**-11, True),
        ("float16", 2.0**-8, False),
    ],
)
def test_features_of_an_item_are_known_again_if_their_last_bits_differ(
    folder: Path, monkeypatch: pytest.MonkeyPatch, storage: str, share: float, is_same: bool
) -> None:
    monkeypatch.setattr(registry, "PACKAGED", {**registry.PACKAGED, "colours": Colours})
    registry._made.cache_clear()
    options = {"image": {"storage": storage}}
    model = few_shot_model({"image": ENCODER}, kind_options=options).adapt(folder / "new")
    assert model.support is not None
    moved = {name: values * (1 + share) for name, values in model.support.inputs.items()}
    model = replace(model, support=replace(model.support, inputs=moved))

    found = correct(model, _queue(folder / "q.csv", f"red/1.png,blue,{folder / 'new'}"))

    n_red = 1 if is_same else 2
    assert dict(found.classes) == {"blue": 3, "green": 2, "red": n_red}


def test_a_correction_moves_the_prediction(model: AdaptedModel, folder: Path) -> None:
    queue = _queue(folder / "q.csv", f"odd.png,blue,{folder / 'photos'}")

    def share(of: AdaptedModel) -> float:
        rows = {row.item: row for row in of.predict(folder / "photos")}
        return float(rows["odd.png"].probabilities["blue"])

    assert share(correct(model, queue)) > share(model)


def test_a_class_may_not_lose_its_last_example(model: AdaptedModel, folder: Path) -> None:
    new = folder / "new"
    queue = _queue(folder / "q.csv", f"red/0.png,blue,{new}", f"red/1.png,blue,{new}")

    with pytest.raises(DataError, match="takes the last example of class 'red' away"):
        correct(model, queue)


def test_only_the_items_of_the_queue_are_read(model: AdaptedModel, folder: Path) -> None:
    (folder / "photos" / "broken.png").write_text("no picture")
    queue = _queue(folder / "q.csv", f"odd.png,red,{folder / 'photos'}")

    assert dict(correct(model, queue).classes)["red"] == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("gone.png,red,{photos}", "has no item 'gone.png'; expected a name as predictions"),
        ("odd.png,red,/nowhere", "/nowhere"),
    ],
)
def test_items_that_are_not_there_are_refused(
    model: AdaptedModel, folder: Path, row: str, message: str
) -> None:
    queue = _queue(folder / "q.csv", row.format(photos=folder / "photos"))

    with pytest.raises(MetafleetError, match=message) as caught:
        correct(model, queue)
    assert "\n" not in str(caught.value)


def test_a_support_set_that_is_too_large_is_not_kept(
    model: AdaptedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = _queue(folder / "q.csv", f"odd.png,red,{folder / 'photos'}")
    assert model.keeps_support
    monkeypatch.setattr(adapted_model, "MOST_SUPPORT_BYTES", 100)
    model.save(folder / "m")

    found = load_model(folder / "m")

    assert not model.keeps_support
    assert isinstance(found, AdaptedModel) and found.support is None
    assert len(correct(model, queue).classes) == 3  # which has it in memory
    with pytest.raises(ModelError, match=r"keeps no support set.*--support FOLDER and --correct"):
        correct(found, queue)


def test_a_model_may_be_written_without_its_support_set(model: AdaptedModel, folder: Path) -> None:
    model.without_support().save(folder / "m")

    found = load_model(folder / "m")

    assert isinstance(found, AdaptedModel) and found.support is None
    reads_it = learned("image", learner={"name": "snail"})
    support = support_of(reads_it)
    with pytest.raises(ModelError, match="'snail' with batch norm 'support' reads its support set"):
        reads_it.adapt_to(support, dict.fromkeys(CLASSES, 2)).without_support()


def test_a_regression_has_nothing_to_correct(folder: Path) -> None:
    model = regressor()
    support = support_of(model, n_way=2)
    adapted = model.adapt_to(type(support)(support.inputs, torch.rand(len(support), 1)), {})

    with pytest.raises(ConfigError, match="corrections are about classes"):
        correct(adapted, _queue(folder / "q.csv", "a,b,c"))


def test_light_and_dark_may_be_swapped_in_the_items_too(model: AdaptedModel, folder: Path) -> None:
    queue = _queue(folder / "q.csv", f"odd.png,red,{folder / 'photos'}")
    plain, swapped = (
        correct(model, queue, ReadOptions(invert=invert)).support for invert in (False, True)
    )

    assert plain is not None and swapped is not None
    torch.testing.assert_close(plain.inputs["image"][-1], 1 - swapped.inputs["image"][-1])
