import json

import pytest
from click.testing import CliRunner
from PIL import Image

from metafleet.data.bound import BoundData
from metafleet.data.registry import DATASETS
from metafleet.errors import ConfigError, DataError, DataMissingError
from metafleet.orchestrator.cli.data import data
from tests.shared_data import shared_data


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
    assert list(entries) == sorted(DATASETS)
    assert entries["sinusoid"]["is_ready"] and not entries["omniglot"]["is_ready"]
    options = {option["name"]: option for option in entries["omniglot"]["options"]}
    assert options["split"]["type"] == '"vinyals" | "lake" | "maml_random" | "small"'
    assert options["rotations"]["default"] is False
    assert "rotations = false" in text and 'modalities = ["image"]' in text


HALF_MADE = {
    "clinc150/data_full.json": b'{"train": [["wh',
    "fsdd/recordings/0_jackson_0.wav": b"RIFF",
    "concepts/manifest.csv": b"concept,",
    "omniglot/images_background/Latin/character01/0001_01.png": b"",
    "glyphs/index.json": b"{",
    "prepared/glyphs-0123456789abcdef/image.npy": b"",
    "prepared/clinc150-0123456789abcdef/index.json": b"{",
    "imported/pets.json": b"{",
}


def test_list_does_not_stop_at_folders_that_are_half_made(run, tmp_path):
    for name, content in HALF_MADE.items():
        path = tmp_path / "home" / "data" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)

    entries = {entry["name"]: entry for entry in json.loads(run("list", "--json"))}
    text = run("list")

    assert set(entries) > {"clinc150", "concepts", "fsdd", "omniglot", "pets"}
    assert all("\n" not in entry["problem"] for entry in entries.values())
    assert "pets" in text and "is damaged" in entries["pets"]["problem"]


def test_what_a_damaged_data_set_says_is_listed(run, monkeypatch):
    def damaged(data):
        raise DataError(f"{data.dataset.name} is half-made; delete it")

    monkeypatch.setattr(BoundData, "is_ready", damaged)

    entries = {entry["name"]: entry for entry in json.loads(run("list", "--json"))}

    assert entries["fsdd"]["problem"] == "fsdd is half-made; delete it"
    assert not entries["fsdd"]["is_ready"]
    assert "cannot be used: fsdd is half-made; delete it" in run("list")


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
        (["inspect", "glyphs", "--set", "min_faces"], ConfigError, "assigns nothing; expected"),
        (["inspect", "omniglot", "--set", "split=test"], ConfigError, "split='test'; expected"),
        (["inspect", "glyphs", "--set", "min_faces=8\nx=1"], ConfigError, r"min_faces='8\\nx=1'"),
        (["inspect", "omniglot"], DataMissingError, "run `metafleet data prepare omniglot`"),
        (["inspect", "glyphs", "--sheet", "x.jpg"], ConfigError, "'x.jpg'; a sheet is a PNG"),
        (["inspect", "sinusoid", "--sheet", "x.png"], ConfigError, "has no pictures"),
        (["inspect", "glyphs", "--sheet", "/no/such/x.png"], DataError, "cannot write the sheet"),
    ],
)
def test_mistakes_are_one_line(run, few_glyphs, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)


def test_an_option_of_a_table_may_be_set(run):
    root = shared_data("fsdd")
    with pytest.raises(ConfigError, match="encoder 'package:minilm' takes text"):
        run("prepare", "fsdd", "--set", f"root={root}", "--set", "audio.encoder=package:minilm")
