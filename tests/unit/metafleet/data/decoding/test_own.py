"""Kinds of data of the user's own, by "package.module:Class"."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metafleet.contracts.code_used import describe_code
from metafleet.data.decoding.registry import get_decoder, import_kinds
from metafleet.data.importing.importer import import_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.reading import read_items
from metafleet.data.registry import draw_sheet, open_data
from metafleet.errors import ConfigError, DataError
from metafleet.inference.run_inputs import input_specs
from metafleet.sources import disk_digest
from metafleet.workload import WorkloadSpec
from tests.folders import write
from tests.unit.metafleet.data.decoding.samples import picture

PACKAGE = "kinds_of_a_user"
SOURCE = (Path(__file__).parent / "own_kinds.py").read_text()
ALLOWED = (PACKAGE,)


def kind(name: str = "Numbers") -> str:
    return f"{PACKAGE}.own:{name}"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "packages"
    write(root / PACKAGE, {"__init__.py": "", "own.py": SOURCE})
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr("metafleet.data.decoding.registry._imported", {})
    yield root / PACKAGE
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {f"c{c}/{i}.num": f"{c} {i} {c + i}" for c in range(6) for i in range(2)}
    write(tmp_path / "folder", files)
    return tmp_path / "folder"


def options(folder: Path, name: str = "Numbers", **own: object) -> dict[str, Any]:
    return {"name": "folder", "path": str(folder), "kinds": [{"name": kind(name), **own}]}


def ask(folder: Path, name: str = "Numbers") -> FolderOptions:
    return FolderOptions(path=str(folder), kinds=({"name": kind(name)},))


def test_a_folder_is_read_by_it_and_scaled_as_its_options_say(folder: Path, tmp_path: Path) -> None:
    bound = open_data(options(folder, scale=2.0), tmp_path / "data", allowed_packages=ALLOWED)
    (info,) = bound.summarise().modalities.values()
    data = bound.open_classes()

    assert info.kind == kind() and info.shape == (3,)
    assert data is not None and data.modalities == ("numbers",)
    assert data.prepared.load("numbers")[:2].tolist() == [[0, 0, 0], [0, 2, 2]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nothing", "has no 'Nothing'; check the spelling"),
        ("Options", "is no subclass of Decoder"),
        ("np", "is no subclass of Decoder"),
        ("Unfinished", "cannot be made (TypeError: Can't instantiate abstract class Unfinished"),
        ("Shouting", "has kind='NUMBERS'; expected a short name of small letters"),
        ("Unversioned", "has version='1'; expected a whole number from 1"),
        ("Bare", 'expected a set of suffixes such as ".xyz"'),
        ("Thawed", "expected a frozen dataclass with a default for each field"),
        ("Demanding", "expected a frozen dataclass with a default for each field"),
        ("Pictures", "are both called 'image'; give the class another `kind`"),
        ("Shapeless", "example returned object [0]; expected a numpy dtype of numbers"),
        ("Uncertain", "has is_text='perhaps'; expected True or False"),
        ("Unbounded", "has is_pixels=False; expected True, as is_picture says"),
        ("Ranging", "has an option range of another type; expected that of ImageOptions"),
        ("Unread", 'expected ".csv" among them, as joins_columns says'),
        ("Careless", "measured failed (TypeError: cannot unpack"),
    ],
)
def test_a_class_that_is_no_decoder_is_refused_in_one_line(
    folder: Path, tmp_path: Path, name: str, message: str
) -> None:
    bound = open_data(options(folder, name), tmp_path / "data", allowed_packages=ALLOWED)
    with pytest.raises((ConfigError, DataError)) as caught:
        bound.prepare()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Raising", "division or modulo by zero, own.py:93); correct the class"),
        ("Textual", "decode returned bytes; expected an array float32 [3], as example says"),
        ("Endless", "decode returned values that are not finite"),
    ],
)
@pytest.mark.parametrize("n_processes", [0, 1])
def test_what_it_does_wrong_is_reported_for_each_item_in_any_process(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    message: str,
    n_processes: int,
) -> None:
    monkeypatch.setattr("metafleet.data.decoding.pool._n_processes", lambda n: n_processes)
    report = import_folder(
        ask(folder, name), tmp_path / "data", name="mine", allowed_packages=ALLOWED
    )

    told = [problem.message for problem in report.problems if problem.kind == "bad-numbers"]
    assert len(told) == 12 and all(message in line for line in told)


def test_processes_that_decode_find_it_where_this_one_found_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sys.path[0])
    monkeypatch.setattr(sys, "path", ["", *sys.path[1:]])  # as in a notebook

    def prepared(n_processes: int) -> str:
        monkeypatch.setattr("metafleet.data.decoding.pool._n_processes", lambda n: n_processes)
        data_dir = tmp_path / str(n_processes)
        return open_data(options(folder), data_dir, allowed_packages=ALLOWED).digest()

    assert prepared(0) == prepared(2)


def test_its_package_must_be_allowed(folder: Path, tmp_path: Path) -> None:
    refused = "may not be imported here (allowed: none); from Python give allowed_packages=["
    with pytest.raises(ConfigError) as caught:
        open_data(options(folder), tmp_path / "data").prepare()
    assert refused in str(caught.value)

    open_data(options(folder), tmp_path / "data", allowed_packages=ALLOWED).prepare()
    with pytest.raises(ConfigError, match="'other'"):
        get_decoder(kind(), allowed_packages=("other",))


def test_other_sources_prepare_the_folder_again(
    folder: Path, tmp_path: Path, package: Path
) -> None:
    def prepared() -> Path:
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        found = open_data(options(folder), tmp_path / "data", allowed_packages=ALLOWED).prepare()
        assert found is not None
        return found.path

    first = prepared()
    assert prepared() == first
    (package / "own.py").write_text(SOURCE.replace("np.float32(options.scale)", "2"))
    assert prepared() != first


def test_its_sources_are_part_of_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    data = options(folder)
    open_data(data, tmp_path / "data", allowed_packages=ALLOWED).prepare()
    spec = WorkloadSpec(seed=1, data=data, data_digest="", episodes={}, model={}, learner={})
    assert describe_code(spec)[f"package {PACKAGE}"] == disk_digest(PACKAGE)


def test_it_goes_before_built_in_kinds_unless_these_are_asked_for(tmp_path: Path) -> None:
    get_decoder(kind(), allowed_packages=ALLOWED)
    write(tmp_path / "f", {f"{c}/{i}.csv": "1,2" for c in "ab" for i in range(2)})
    own = ask(tmp_path / "f")

    assert read_items(tmp_path / "f", own).kinds == {"numbers": kind()}
    assert read_items(tmp_path / "f", FolderOptions(path=own.path)).kinds == {"table": "table"}


def test_of_two_that_read_a_suffix_the_second_gets_the_files_that_it_claims(tmp_path: Path) -> None:
    files = {f"{c}/{i}.num": "#1 2 3" if c == "a" else "1 2 3" for c in "ab" for i in range(2)}
    write(tmp_path / "f", files)

    def kinds_with(second: str) -> set[str]:
        named = tuple({"name": kind(name)} for name in ("Numbers", second))
        import_kinds((table["name"] for table in named), allowed_packages=ALLOWED)
        return set(read_items(tmp_path / "f", FolderOptions(kinds=named)).kinds.values())

    assert kinds_with("Commented") == {kind(), kind("Commented")}
    with pytest.raises(DataError, match=r"claims failed \(ZeroDivisionError"):
        kinds_with("Doubtful")


@pytest.mark.parametrize("called", ["numbers", kind()])
def test_files_for_a_model_are_named_by_its_short_name_or_its_whole_one(
    folder: Path, called: str
) -> None:
    get_decoder(kind(), allowed_packages=ALLOWED)
    named, expected = FolderOptions(columns={"late": called}), {"late": kind(), "early": kind()}
    assert read_items(folder, named, expected=expected).kinds == {"late": kind()}


def test_a_column_of_a_manifest_may_be_of_it(tmp_path: Path) -> None:
    get_decoder(kind(), allowed_packages=ALLOWED)
    files = {f"{i}.num": "1 2 3" for i in range(4)}
    rows = "label,first,second\n" + "".join(f"a{i % 2},{i}.num,{i}.num\n" for i in range(4))
    write(tmp_path / "f", {**files, "m.csv": rows})

    reading = read_items(tmp_path / "f", ask(tmp_path / "f"))
    assert reading.kinds == {"first": kind(), "second": kind()} and not reading.problems
    named = FolderOptions(kinds=({"name": kind()},), columns={"numbers": "second"})
    assert read_items(tmp_path / "f", named).kinds == {"numbers": kind()}


def test_pictures_of_its_own_tell_light_from_dark_and_what_became_of_their_levels(
    tmp_path: Path,
) -> None:
    dark = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 8)
    write(
        tmp_path / "f", {f"{c}/{i}.png": picture(dark, "PNG") for c in "abcdefgh" for i in range(2)}
    )
    report = import_folder(
        ask(tmp_path / "f", "Scans"), tmp_path / "data", name="mine", allowed_packages=ALLOWED
    )
    (note,) = [note for note in report.notes if "grey levels" in note]
    (spec,) = input_specs(
        options(tmp_path / "f", "Scans"), tmp_path / "data", allowed_packages=ALLOWED
    ).values()

    assert "--set scan.range=data" in note
    assert spec.brightness is not None and spec.brightness < 0.1
    assert spec.with_light_and_dark_swapped().is_inverted


def test_a_picture_of_its_own_has_channels(tmp_path: Path) -> None:
    write(tmp_path / "f", {"a/0.png": picture(Image.new("L", (8, 8)), "PNG")})
    bound = open_data(options(tmp_path / "f", "Flat"), tmp_path / "data", allowed_packages=ALLOWED)
    with pytest.raises(DataError, match=r"returned uint8 \[32, 32\]; expected uint8 \[channels,"):
        bound.prepare()


def test_texts_of_its_own_are_searched_for_the_name_of_their_class(tmp_path: Path) -> None:
    write(tmp_path / "f", {f"{c}x/{i}.txt": f"{c}x {i} " * 9 for c in "abcdefgh" for i in range(2)})
    asked = options(tmp_path / "f", "Notes", max_bytes=16)
    own = FolderOptions(path=str(tmp_path / "f"), kinds=tuple(asked["kinds"]))
    report = import_folder(own, tmp_path / "data", name="mine", allowed_packages=ALLOWED)
    source = open_data(asked, tmp_path / "data", allowed_packages=ALLOWED).open_source()

    assert "16 of 'note' say the name of their class" in "".join(report.notes)
    assert "16 of 'note' were cut to 16 bytes" in "".join(report.notes)
    assert "--set note.max_bytes=N" in "".join(report.notes)
    assert source.texts == {"note"}


def test_a_column_of_numbers_may_be_an_item_of_it(tmp_path: Path) -> None:
    get_decoder(kind("Rows"), allowed_packages=ALLOWED)
    write(tmp_path / "f", {"m.csv": "label,weight\n" + "a,1\nb,2\n" * 2})
    named = FolderOptions(kinds=({"name": kind("Rows")},), columns={"row": "weight"})

    assert read_items(tmp_path / "f", named).kinds == {"row": kind("Rows")}


def test_a_sheet_shows_what_it_draws_and_says_what_is_no_picture(
    folder: Path, tmp_path: Path
) -> None:
    def draw(name: str) -> None:
        draw_sheet(
            options(folder, name), tmp_path / name, tmp_path / "s.png", allowed_packages=ALLOWED
        )

    draw("Numbers")
    assert (tmp_path / "s.png").stat().st_size > 500
    with pytest.raises(DataError, match="draw returned a str; expected a PIL image"):
        draw("Blind")


@pytest.mark.parametrize(
    "kinds",
    [[{}], [{"name": 3}], [{"name": "numbers"}], [{"name": kind()}, {"name": kind()}]],
    ids=["none", "no text", "no class", "twice"],
)
def test_wrong_tables_of_kinds_are_named(kinds: Sequence[object], tmp_path: Path) -> None:
    asked = {"name": "folder", "path": str(tmp_path), "kinds": kinds}
    with pytest.raises(ConfigError, match="each with a name of its own"):
        open_data(asked, tmp_path, allowed_packages=ALLOWED)


@pytest.mark.parametrize(
    ("own", "message"),
    [({"width": 0}, "width=0"), ({"depth": 1}, "has no option 'depth'")],
    ids=["range", "unknown"],
)
def test_its_wrong_options_are_one_line(
    folder: Path, tmp_path: Path, own: dict[str, object], message: str
) -> None:
    bound = open_data(options(folder, **own), tmp_path, allowed_packages=ALLOWED)
    with pytest.raises(ConfigError) as caught:
        bound.prepare()
    assert message in str(caught.value) and json.dumps(kind())[1:-1] in str(caught.value)
