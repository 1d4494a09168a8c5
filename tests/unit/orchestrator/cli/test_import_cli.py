import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from metafleet.errors import ConfigError, DataError, DataMissingError
from metafleet.orchestrator.cli.data import data
from metafleet.orchestrator.cli.main import main
from tests.folders import (
    CLASSES,
    OTHER_SEED,
    class_folders,
    huggingface,
    sound,
    write,
)

SEED = ("--seed", str(OTHER_SEED))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("METAFLEET_DATA_DIR", raising=False)
    return tmp_path / "home"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(data, list(map(str, arguments)), catch_exceptions=False)


def test_an_import_says_what_it_decided_and_can_be_inspected_by_its_name(
    tmp_path: Path, home: Path
) -> None:
    folder = huggingface(tmp_path / "My pets")

    imported = run("import", folder, *SEED)
    inspected = json.loads(run("inspect", "My-pets", "--json", "--verify").stdout)
    by_path = json.loads(
        run("inspect", folder, "--set", f"split_seed={OTHER_SEED}", "--json").stdout
    )
    listed = {entry["name"]: entry for entry in json.loads(run("list", "--json").stdout)}

    assert imported.exit_code == 0, imported.output
    once = ("layout: huggingface", f"seed {OTHER_SEED}", str(folder))
    assert [imported.stdout.count(text) for text in once] == [1, 1, 1]
    assert inspected["digest"] == by_path["digest"] and inspected["digest"] in imported.stdout
    assert {name: about["items"] for name, about in inspected["modalities"].items()} == {
        "image": 36,
        "audio": 36,
        "text": 36,
    }
    assert listed["My-pets"]["data"] == {"name": "folder", "imported": "My-pets"}
    assert str(folder) in run("list").stdout


def test_a_folder_with_problems_is_refused_with_a_line_each_and_a_summary(
    tmp_path: Path, home: Path
) -> None:
    folder = write(
        class_folders(tmp_path / "pets"),
        {**{f"kind00/x{n:02d}.png": b"hello" for n in range(60)}, "kind01/x.wav": b"hello"},
    )
    problems = tmp_path / "problems.jsonl"

    result = run("import", folder, *SEED, "--problems", problems)

    lines = result.stderr.splitlines()
    assert result.exit_code == 1 and not result.stdout
    assert sum("[bad-image]" in line for line in lines) == 50
    assert "... and 11 more; --problems FILE writes all" in lines
    assert lines[-1] == (
        "pets was not imported: 61 problems (60 bad-image, 1 bad-audio); fix them, "
        "or leave them out with --skip-bad"
    )
    written = [json.loads(line) for line in problems.read_text().splitlines()]
    assert len(written) == 61
    assert {"kind": "bad-image", "where": "kind00/x00.png"}.items() <= written[0].items()
    assert not list((home / "data").glob("*/[!.]*"))


def test_a_folder_may_be_named_by_any_path_that_leads_to_it(tmp_path: Path, home: Path) -> None:
    folder = class_folders(tmp_path / "pets")

    for path in (folder, folder / ".." / "pets", f"{folder}/"):
        assert "name        pets" in run("import", path, *SEED).stdout


def test_copies_are_reported(tmp_path: Path, home: Path) -> None:
    folder = class_folders(tmp_path / "pets")
    shutil.copy(folder / CLASSES[0] / "0.png", folder / CLASSES[1] / "x.png")
    (folder / CLASSES[2] / "x.png").symlink_to(folder / CLASSES[2] / "2.png")

    told = run("import", folder, *SEED).stdout

    assert f"copies of other items: 1, of their own classes, such as {CLASSES[2]}/x.png" in told
    shutil.copy(folder / CLASSES[0] / "2.png", folder / CLASSES[1] / "y.png")
    assert "copies of other items: 2, of other classes too" in run("import", folder, *SEED).stdout


def test_omissions_are_reported_and_stored(tmp_path: Path, home: Path) -> None:
    folder = write(class_folders(tmp_path / "pets"), {"kind00/x.png": b"hello"})

    result = run("import", folder, *SEED, "--skip-bad")

    assert result.exit_code == 0, result.output
    assert "kind00/x.png" in result.stdout
    assert "left out: 1 problem (1 bad-image)" in result.stdout
    assert "kind00/x.png" in run("inspect", "pets").stdout


def test_a_modality_of_which_nothing_is_left_is_left_out_and_said(
    tmp_path: Path, home: Path
) -> None:
    folder = write(
        class_folders(tmp_path / "pets"), {f"{name}/x.txt": b"\xff" for name in CLASSES[:2]}
    )

    result = run("import", folder, *SEED, "--skip-bad")
    inspected = json.loads(run("inspect", "pets", "--json").stdout)

    told = "modality 'text' is left out: no item without fault has it"
    assert result.stdout.count(told) == 1
    assert list(inspected["modalities"]) == ["image", "audio"]
    assert told in inspected["facts"].values()


def test_columns_fractions_and_options_of_decoders_are_taken(tmp_path: Path, home: Path) -> None:
    folder = huggingface(tmp_path / "pets")

    result = run(
        "import", folder, *SEED, "--name", "small", "--column", "photo=image_file_name",
        "--label", "label", "--fractions", "0.4,0.3,0.3", "--set", "image.side=8", "--json",
    )  # fmt: skip

    found = json.loads(result.stdout)
    assert found["is_imported"] and found["problems"] == []
    assert found["summary"]["modalities"]["photo"]["shape"] == [3, 8, 8]
    assert list(found["summary"]["modalities"]) == ["photo"]


def test_a_file_for_problems_that_cannot_be_written_is_refused_before_anything_is_imported(
    tmp_path: Path, home: Path
) -> None:
    folder = class_folders(tmp_path / "pets")

    with pytest.raises(DataError, match=r"cannot write .*nowhere/p.jsonl .*choose another file"):
        run("import", folder, *SEED, "--problems", tmp_path / "nowhere" / "p.jsonl")

    assert not (home / "data").exists()


def test_a_list_of_problems_stays_until_there_is_a_new_one(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    problems = folder / "problems.jsonl"
    problems.write_text("of the last import\n")

    with pytest.raises(DataMissingError):
        run("import", tmp_path / "nowhere", *SEED, "--problems", problems)

    assert problems.read_text() == "of the last import\n"
    assert list(folder.iterdir()) == [problems]


def test_a_run_of_texts_as_bytes_is_refused_where_features_are_read(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", huggingface(tmp_path / "pets"), *SEED).exit_code == 0
    tables = {
        "data": 'name = "folder"\nimported = "pets"',
        "episodes": "n_way = 2\nk_shot = 1\nn_query = 1",
        "model": 'name = "adapter"',
        "learner": 'name = "protonet"',
        "outer": "steps = 1\nmeta_batch_size = 1\nlr = 0.1",
    }
    texts = [f"[{name}]\n{lines}\n" for name, lines in tables.items()]
    (tmp_path / "pets.toml").write_text("".join(['name = "pets"\n', *texts]))

    assert main(["submit", str(tmp_path / "pets.toml"), "--in-process"]) == 1

    error = capsys.readouterr().err
    assert "modality='text' is bytes of a text, but model 'adapter' reads features" in error
    assert "data.text.encoder" in error and error.count("\n") == 1
    assert not (home / "metafleet.db").exists()


def test_no_folder_is_one_line(tmp_path: Path, home: Path) -> None:
    assert main(["data", "import", str(tmp_path / "nowhere")]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "photo"], "expected MODALITY=COLUMN"),
        (["--set", "side=8"], "expected KIND.OPTION=VALUE"),
        (["--set", "path.x=8"], "expected KIND.OPTION=VALUE"),
        (["--set", "columns.x=y"], "expected KIND.OPTION=VALUE"),
        (["--set", "kinds.x=y"], "expected KIND.OPTION=VALUE"),
        (["--set", "sound.rate=8"], "has no option 'sound'"),
        (["--fractions", "a,b"], "expected three shares"),
        (["--name", "../x"], "expected up to 64 letters"),
        (["--name", "glyphs"], "built-in data set"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, home: Path, arguments: list[str], message: str
) -> None:
    folder = class_folders(tmp_path / "pets")

    with pytest.raises(ConfigError, match=message):
        run("import", folder, *arguments)


@pytest.mark.parametrize("encoder", ["bytes", "minilm"])
def test_texts_that_say_the_name_of_their_class_are_counted(
    encoder: str, tmp_path: Path, home: Path
) -> None:
    telling = {f"{name}/0.txt": f"it is a {name.upper()}!" for name in CLASSES[:3]}
    others = {f"{name}/1.txt": "it is nothing" for name in CLASSES}
    folder = write(class_folders(tmp_path / "pets"), {**telling, **others})

    told = run("import", folder, *SEED, "--set", f"text.encoder={encoder}").stdout

    assert "3 of 'text' say the name of their class" in told


def test_texts_that_were_cut_are_counted(tmp_path: Path, home: Path) -> None:
    texts = {f"{name}/0.txt": "ö" * 10 for name in CLASSES}
    long = {f"{name}/1.txt": "ö" * 11 for name in CLASSES[:2]}
    folder = write(class_folders(tmp_path / "pets"), {**texts, **long})

    told = run("import", folder, *SEED, "--set", "text.max_bytes=20").stdout
    enough = run("import", folder, *SEED, "--set", "text.max_bytes=22").stdout

    assert "2 of 'text' were cut to 20 bytes, the longest has 22; keep more with" in told
    assert "were cut" not in enough


def test_a_split_that_is_too_small_does_not_hide_that_the_rest_can_be_left_out(
    tmp_path: Path, home: Path
) -> None:
    folder = class_folders(tmp_path / "pets", classes=["a", "b", "c"])

    alone = run("import", folder)
    result = run("import", write(folder, {"a/x.png": b"hello"}))

    assert alone.stderr.splitlines()[-1].endswith("3 problems (3 small-split); fix them")
    assert result.stderr.splitlines()[-1] == (
        "pets was not imported: 4 problems (3 small-split, 1 bad-image); fix 3 small-split; "
        "--skip-bad leaves out the rest"
    )


def test_an_unknown_name_is_reported_with_what_was_imported_and_is_built_in(
    tmp_path: Path, home: Path
) -> None:
    run("import", class_folders(tmp_path / "pets"))

    with pytest.raises(ConfigError, match=r"no data set 'pts'.*glyphs.*imported here: pets$"):
        run("inspect", "pts")


def test_prepared_data_are_inspected_after_the_folder_is_gone(tmp_path: Path, home: Path) -> None:
    folder = class_folders(tmp_path / "pets")
    run("import", folder)
    before = run("inspect", folder).stdout
    shutil.rmtree(folder)

    gone = run("inspect", folder).stdout
    shutil.rmtree(home / "data/prepared")

    assert gone == before and "digest" in gone
    with pytest.raises(DataMissingError, match=r"imported as 'pets' is not prepared .*pets, which"):
        run("inspect", "pets")


def test_a_mixture_needs_no_preparation(home: Path) -> None:
    listed = run("list").stdout

    assert "prepare mixture" not in listed and "(ready when its parts are)" in listed


@pytest.mark.parametrize(
    ("option", "value"),
    [("--column", "image=foo"), ("--label", "foo"), ("--split-column", "foo")],
    ids=["column", "label", "split"],
)
def test_columns_of_a_folder_without_a_table_are_refused(
    tmp_path: Path, home: Path, option: str, value: str
) -> None:
    folder = class_folders(tmp_path / "pets")

    with pytest.raises(ConfigError) as caught:
        run("import", folder, option, value)

    assert str(caught.value) == (
        f"{option} {value!r} names a column, but {folder} is read as class_folders, without a "
        f"table; leave {option} out, or give a table in its place"
    )


def test_an_empty_name_is_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(ConfigError, match=r"^name ''; expected up to 64 letters"):
        run("import", class_folders(tmp_path / "pets"), "--name", "")


def test_columns_named_differently_from_their_modality_are_reported(
    tmp_path: Path, home: Path
) -> None:
    lines = ["sound_file_name,sentence,label"]
    for n in range(24):
        write(tmp_path / "t", {f"{n}.wav": sound(n)})
        lines.append(f"{n}.wav,what {n} says,{CLASSES[n % 12]}")
    write(tmp_path / "t", {"metadata.csv": "\n".join(lines)})

    shown = run("import", tmp_path / "t", *SEED).output

    assert "modality 'audio' is audio, from column 'sound_file_name'" in shown
    assert "modality 'text' is text, from column 'sentence'" in shown
