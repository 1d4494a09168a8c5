"""Columns of a table, and files, are matched to the modalities of a model."""

from pathlib import Path

import pytest

from metafleet.errors import ConfigError, DataError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.items import ReadOptions
from metafleet.inference.learned_model import LearnedModel
from metafleet.problem import Problem
from tests.folders import picture, sentence, sound, write
from tests.unit.metafleet.inference.models import ORIGIN, SHAPE, spec

CONV = {"name": "conv4", "channels": 4, "n_blocks": 2}
ENCODERS = {
    "front": CONV,
    "back": CONV,
    "audio": {"name": "audio_conv", "channels": 4},
    "story": {"name": "ngram_bag"},
}
KINDS = {"front": "image", "back": "image", "audio": "audio", "story": "text"}


def cards(folder: Path, columns: str, rows: int = 6) -> Path:
    """Write a table whose columns hold f(ront), b(ack), a(udio), t(ext), as their names begin."""
    lines = [f"{columns},label"]
    for row in range(rows):
        files = {f"f{row}.png": picture(row), f"b{row}.png": picture(50 + row)}
        write(folder, {**files, f"s{row}.wav": sound(row)})
        cells = {"f": f"f{row}.png", "b": f"b{row}.png", "s": f"s{row}.wav", "t": sentence(row)}
        cells["t"] = f'"{cells["t"]}"'
        lines.append(
            ",".join([cells[name[0].lower()] for name in columns.split(",")] + [f"kind{row % 2}"])
        )
    return write(folder, {"metadata.csv": "\n".join(lines) + "\n"})


def base(*names: str) -> LearnedModel:
    """An untrained fusion of these modalities of a card."""
    specs = {name: spec(KINDS[name]) for name in names}
    shapes = {name: found.shape for name, found in specs.items()}
    texts = frozenset(name for name, found in specs.items() if found.is_text)
    kinds = {name: KINDS[name] for name in names if KINDS[name] != name}
    problem = Problem(shapes, 0, {"meta_train": SHAPE}, texts=texts, kinds=kinds)
    encoders = {name: ENCODERS[name] for name in names}
    model = {"name": "fusion", "dim": 8, "method": "gated", "batch_norm": "support"}
    blueprint = Blueprint({"name": "protonet"}, {**model, "encoders": encoders}, problem, specs)
    return LearnedModel.of(blueprint, blueprint.build().init_state(1), ORIGIN)


@pytest.fixture
def model(tmp_path: Path) -> AdaptedModel:
    """Adapted to both pictures and the sound of cards."""
    table = cards(tmp_path / "support", "front_file_name,back_file_name,sound_file_name")
    return base("front", "back", "audio").adapt(table)


def probabilities(
    model: AdaptedModel, path: Path, **columns: str
) -> tuple[list[dict[str, float]], tuple[str, ...]]:
    found = model.predict(path, ReadOptions(columns=columns))
    return [dict(row.probabilities) for row in found], found.notes  # type: ignore[union-attr]


@pytest.mark.parametrize("column", ["back_file_name", "back_path", "Back"])
def test_a_lone_column_is_the_modality_that_it_is_called_like(
    tmp_path: Path, model: AdaptedModel, column: str
) -> None:
    lone = cards(tmp_path / "lone", f"{column},sound_file_name")

    found, notes = probabilities(model, lone)

    assert "modality 'audio' is audio, from column 'sound_file_name'" in notes
    assert "no item has 'front', at which the model would look as well" in notes
    assert not any("left out" in note for note in notes)
    as_named, _ = probabilities(model, lone, back=column, audio="sound_file_name")
    assert found == as_named


def test_a_column_that_is_named_comes_to_those_that_are_found_or_replaces_one(
    tmp_path: Path, model: AdaptedModel
) -> None:
    table = cards(tmp_path / "table", "back_file_name,sound_file_name,front_file_name")

    whole, _ = probabilities(model, table)
    same, _ = probabilities(model, table, back="back_file_name")
    turned, notes = probabilities(model, table, back="front_file_name")

    assert same == whole
    assert turned != whole
    assert "no item has 'front', at which the model would look as well" in notes


def test_a_picture_that_may_be_one_of_two_is_refused_with_what_to_say(
    tmp_path: Path, model: AdaptedModel
) -> None:
    table = cards(tmp_path / "table", "fore_file_name,sound_file_name")
    photo = tmp_path / "table/f0.png"

    with pytest.raises(DataError) as of_table:
        model.predict(table)
    with pytest.raises(DataError) as of_file:
        model.predict(photo)
    with pytest.raises(ConfigError, match="no files that are 'video'; it has image"):
        probabilities(model, photo, front="video")

    may_be = "may be 'front' or 'back' of the model; say which, as --column front="
    assert str(of_table.value) == f"{table}: the image in 'fore_file_name' {may_be}fore_file_name"
    assert str(of_file.value) == f"{photo}: the image {may_be}image"
    ((lone,), _), (rows, _) = (
        probabilities(model, photo, front="image"),
        probabilities(model, table, front="fore_file_name"),
    )
    assert set(lone) == {"kind0", "kind1"} and len(rows) == 6


def test_a_lone_column_is_the_only_modality_of_its_kind_whatever_both_are_called(
    tmp_path: Path,
) -> None:
    first = cards(tmp_path / "first", "f_file_name,text")
    second = cards(tmp_path / "second", "f_file_name,b_file_name,text")

    adapted = base("front", "story").adapt(first)
    with pytest.raises(DataError, match="the image in 'b_file_name' and 'f_file_name' may be"):
        adapted.predict(second)

    assert adapted.notes[1:] == (
        "modality 'front' is image, from column 'f_file_name'",
        "modality 'story' is text, from column 'text'",
    )


def test_a_text_is_found_by_the_name_that_the_model_knows(tmp_path: Path) -> None:
    table = cards(tmp_path / "table", "front_file_name,text") / "metadata.csv"
    table.write_text(table.read_text().replace("text", "story", 1))

    adapted = base("front", "story").adapt(table)

    assert not any("story" in note for note in adapted.notes)


def test_an_item_of_a_table_is_named_by_its_row_though_it_has_one_file(
    tmp_path: Path, model: AdaptedModel
) -> None:
    found = model.predict(cards(tmp_path / "table", "front_file_name", rows=3))

    assert [row.item for row in found] == [f"metadata.csv:{line}" for line in (2, 3, 4)]


def test_a_column_of_another_kind_than_the_modality_it_is_named_for_is_refused(
    tmp_path: Path, model: AdaptedModel
) -> None:
    table = cards(tmp_path / "table", "front_file_name,sound_file_name,text")
    folder = write(tmp_path / "items", {f"{n}.wav": sound(n) for n in range(3)})

    for path, modality, column in (
        (table, "back", "text"),
        (table, "audio", "front_file_name"),
        (folder, "front", "audio"),
    ):
        with pytest.raises(DataError, match=f"modality '{modality}': was asked for as .* holds"):
            model.predict(path, ReadOptions(columns={modality: column}))
