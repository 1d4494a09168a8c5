import json

import pytest
from click.testing import CliRunner
from PIL import Image

from metafleet.errors import ConfigError, DataError, DataMissingError
from orchestrator.cli.data import data


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("METAFLEET_DATA_DIR", raising=False)

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(data, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def test_list_names_sets_options_and_readiness(run):
    text = run("list")
    entries = {entry["name"]: entry for entry in json.loads(run("list", "--json"))}

    assert "omniglot" in text and "metafleet data prepare omniglot" in text
    assert list(entries) == [
        "clinc150",
        "concepts",
        "folder",
        "fsdd",
        "function_families",
        "glyphs",
        "mixture",
        "omniglot",
        "sinusoid",
    ]
    assert entries["sinusoid"]["is_ready"] and not entries["omniglot"]["is_ready"]
    options = {option["name"]: option for option in entries["omniglot"]["options"]}
    assert options["split"]["type"] == '"vinyals" | "lake" | "maml_random" | "small"'
    assert options["rotations"]["default"] is False
    assert "rotations = false" in text and 'modalities = ["image"]' in text


def test_prepare_and_inspect_agree_on_the_digest(run, few_glyphs):
    prepared = json.loads(run("prepare", "glyphs", "--json"))
    inspected = json.loads(run("inspect", "glyphs", "--json", "--verify"))
    text = run("inspect", "glyphs", "--verify")

    assert prepared["digest"] == inspected["digest"]
    assert inspected["splits"]["meta_test"]["groups"] == {"Armenian": 15}  # one is an L
    assert inspected["modalities"]["image"]["shape"] == [1, 28, 28]
    assert prepared["digest"] in text and "every byte is as prepared" in text
    assert prepared["digest"] in run("prepare", "glyphs")


def test_the_sheet_is_a_picture(run, few_glyphs, tmp_path):
    path = tmp_path / "sheet.png"

    assert str(path) in run("inspect", "glyphs", "--sheet", str(path))

    with Image.open(path) as sheet:
        colours = sheet.convert("RGB").getcolors(1 << 24)
        assert sheet.width > 1000 and sheet.height > 800
    assert any(blue > red + 100 for _, (red, _, blue) in colours)  # the outlines are there too


def test_options_are_given_with_set(run):
    plain = json.loads(run("inspect", "sinusoid", "--json"))
    wide = json.loads(run("inspect", "sinusoid", "--set", "x_max=9", "--json"))

    assert (plain["facts"]["x_max"], wide["facts"]["x_max"]) == ("5.0", "9.0")
    assert "x_max" in run("inspect", "sinusoid")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["inspect", "nope"], ConfigError, "no data set 'nope'"),
        (["inspect", "glyphs", "--set", "min_faces"], ConfigError, "expected OPTION=VALUE"),
        (["inspect", "omniglot", "--set", "split=test"], ConfigError, "split='test'; expected"),
        (["inspect", "glyphs", "--set", "min_faces=8\nx=1"], ConfigError, r"min_faces='8\\nx=1'"),
        (["inspect", "omniglot"], DataMissingError, "run `metafleet data prepare omniglot`"),
        (["inspect", "sinusoid", "--sheet", "x.png"], ConfigError, "has no pictures"),
        (["inspect", "glyphs", "--sheet", "/no/such/x.png"], DataError, "cannot write the sheet"),
    ],
)
def test_mistakes_are_one_line(run, few_glyphs, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
