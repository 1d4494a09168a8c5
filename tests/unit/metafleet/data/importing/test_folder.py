"""The data set ``folder``: prepared once, found again, remembered by name, never half there."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metafleet.data import registry
from metafleet.data.decoding.registry import DECODERS
from metafleet.data.importing.importer import _asked, import_folder
from metafleet.data.importing.options import FolderOptions
from metafleet.data.importing.record import ImportRecord, get_record, write_record
from metafleet.data.prepared.prepared import folder_of
from metafleet.episode import META_TRAIN, META_VAL, EpisodeShape
from metafleet.errors import ConfigError, DataError, DataMissingError
from metafleet.options import option_hints
from metafleet.seeds import CounterRng
from tests.folders import OTHER_SEED, class_folders, huggingface, picture, write

SHAPE = EpisodeShape(n_way=2, k_shot=1, n_query=1)


def options(folder: Path, **others: object) -> dict[str, object]:
    return {"name": "folder", "path": str(folder), "split_seed": OTHER_SEED, **others}


def prepared_folders(data_dir: Path) -> set[str]:
    return {p.name for p in (data_dir / "prepared").glob("[!.]*")}


def ask(folder: Path, **others: object) -> FolderOptions:
    found = registry.open_data(options(folder, **others), Path()).options
    assert isinstance(found, FolderOptions)
    return found


@pytest.mark.parametrize(
    ("others", "folder"),
    [
        ({}, "folder-5cd79b2a2ff02d99"),
        (
            {
                "image": {"side": 16, "range": "data"},
                "label": "species",
                "columns": {"image": "photo"},
            },
            "folder-facc356e860e47ec",
        ),
        (
            {"series": {"length": 64}, "table": {"width": 2}, "min_items": 3},
            "folder-6fba4825b17e20fe",
        ),
        (
            {
                "kinds": [{"name": "spectra.xy:Spectrum", "n_points": 64}],
                "split_fractions": [0.5, 0, 0.5],
                "modalities": ["image"],
            },
            "folder-2e554c44c886bbe2",
        ),
    ],
    ids=["defaults", "pictures", "series", "own kind"],
)
def test_options_have_the_recipe_that_earlier_versions_prepared_folders_under(
    others: dict[str, object], folder: str
) -> None:
    asked = {"name": "folder", "path": "/data/pets", **others}
    options: FolderOptions = registry.open_data(asked, Path()).options

    assert folder_of(Path(), "folder", _asked(options)).name == folder


def test_each_kind_is_an_option_and_none_is_called_like_another_option() -> None:
    fields = {field.name for field in dataclasses.fields(FolderOptions)}

    assert not fields & set(DECODERS)
    assert set(option_hints(FolderOptions)) == fields - {"decoders"} | set(DECODERS)
    with pytest.raises(ConfigError, match="has no option 'decoders'; its options are: audio, "):
        registry.open_data({"name": "folder", "decoders": {"image": {}}}, Path())


def test_episodes_have_pictures_sounds_and_sentences_of_one_item(tmp_path: Path) -> None:
    folder, data_dir = huggingface(tmp_path / "folder"), tmp_path / "data"
    source = registry.open_source(
        options(folder, image={"side": 12}, audio={"duration_s": 0.2}), data_dir
    )

    episode = source.sample(META_TRAIN, SHAPE, CounterRng(1, META_TRAIN, 0, 0))

    inputs = episode.support.inputs
    assert set(inputs) == {"image", "audio", "text"}
    assert inputs["image"].shape == (2, 3, 12, 12)
    for picture_of, text in zip(inputs["image"], inputs["text"], strict=True):
        sentence = bytes(text.to(int).tolist()).rstrip(b"\0").decode()
        number = int(sentence.split()[2].rstrip(","))
        with Image.open(BytesIO(picture(number))) as image:
            expected = np.asarray(image).transpose(2, 0, 1) / np.float32(255)
        assert np.allclose(picture_of.numpy(), expected)


def test_items_without_a_sound_come_with_a_mask(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    source = registry.open_source(options(folder), data_dir)

    masks = [
        source.sample(META_TRAIN, SHAPE, CounterRng(1, META_TRAIN, 0, i)).query.inputs
        for i in range(30)
    ]

    has_sound = [float(value) for inputs in masks for value in inputs["audio.present"]]
    assert 0.4 < np.mean(has_sound) < 0.9  # two of three have one
    assert "image.present" not in masks[0]


def test_it_is_prepared_once_and_again_when_a_file_changes(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    digest = registry.open_data(options(folder), data_dir).digest()
    before = prepared_folders(data_dir)

    assert registry.open_data(options(folder), data_dir).digest() == digest
    assert prepared_folders(data_dir) == before
    write(folder, {"kind03/1.png": picture(999)})
    assert registry.open_data(options(folder), data_dir).digest() != digest
    assert len(prepared_folders(data_dir)) == 2


def test_a_host_without_the_folder_finds_what_was_prepared_from_it(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    digest = registry.open_data(options(folder), data_dir).digest()
    folder.rename(tmp_path / "elsewhere")

    assert registry.open_data(options(folder), data_dir).digest() == digest
    assert registry.open_data(options(folder), data_dir).is_ready()
    with pytest.raises(DataMissingError, match="there is no folder or file"):
        registry.open_data(options(folder, min_items=3), data_dir).digest()
    with pytest.raises(DataMissingError, match=r"check data\.path"):
        registry.open_data(options(folder), Path()).check_place()


def test_a_host_without_the_prepared_data_makes_the_same_from_the_folder(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder")
    digests = {registry.open_data(options(folder), tmp_path / name).digest() for name in ("a", "b")}

    assert len(digests) == 1


def test_imported_data_stay_as_they_were_until_they_are_imported_again(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    named = {"name": "folder", "imported": "pets"}
    import_folder(ask(folder), data_dir, name="pets")
    digest = registry.open_data(named, data_dir).digest()

    write(folder, {"kind03/1.png": picture(999)})
    assert registry.open_data(named, data_dir).digest() == digest
    import_folder(ask(folder), data_dir, name="pets")
    assert registry.open_data(named, data_dir).digest() != digest
    shutil.rmtree(data_dir / "prepared")
    assert registry.open_data(named, data_dir).digest() != digest  # made again from the folder


def test_a_pinned_import_can_be_prepared_by_a_host_that_has_the_folder_alone(
    tmp_path: Path,
) -> None:
    folder, here, there = class_folders(tmp_path / "folder"), tmp_path / "here", tmp_path / "there"
    import_folder(ask(folder, image={"side": 9}, min_items=3), here, name="pets")
    named = {"name": "folder", "imported": "pets", "modalities": ["image"]}

    pinned = registry.pin(named, here)

    assert registry.open_data(pinned, there).digest() == registry.open_data(named, here).digest()
    assert registry.open_data(pinned, here).digest() == registry.open_data(named, here).digest()
    assert registry.pin({"name": "glyphs"}, here) == {"name": "glyphs"}
    assert registry.pin(named, tmp_path / "nowhere") == named


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("path", "/data/pets", "'/data/pets'"),
        ("split_seed", 5, "5"),
        ("split_fractions", [0.5, 0.25, 0.25], r"\[0.5, 0.25, 0.25\]"),
        ("image", {"side": 9}, "{'side': 9}"),
    ],
)
def test_a_name_and_how_else_to_read_are_refused_together(
    tmp_path: Path, option: str, value: object, shown: str
) -> None:
    import_folder(ask(class_folders(tmp_path / "folder")), tmp_path / "data", name="pets")
    named = {"name": "folder", "imported": "pets", "modalities": ["image"]}
    registry.open_data(named, Path()).check_place()

    for both in (named, {"name": "mixture", "parts": [named]}):
        table = both.get("parts", [both])[0]
        told = rf"{option}={shown} with imported='pets'.* leave {option} out, or set imported"
        table[option] = value
        with pytest.raises(ConfigError, match=told):
            registry.open_data(both, Path()).check_place()


def test_a_name_is_not_taken_from_another_folder(tmp_path: Path) -> None:
    folders = [class_folders(tmp_path / name / "pets") for name in ("a", "b")]
    data_dir = tmp_path / "data"
    import_folder(ask(folders[0]), data_dir, name="pets")

    with pytest.raises(ConfigError, match=r"name 'pets' is that of .*/a/pets; .*--name"):
        import_folder(ask(folders[1]), data_dir, name="pets")
    (data_dir / "imported" / "pets.json").write_text("{")
    with pytest.raises(DataError, match="import` again"):
        registry.open_source({"name": "folder", "imported": "pets"}, data_dir)
    assert import_folder(ask(folders[1]), data_dir, name="pets").prepared is not None


def test_of_two_folders_that_take_a_name_at_once_one_is_refused(tmp_path: Path) -> None:
    first, second = (
        ImportRecord("pets", FolderOptions(path=str(tmp_path / name)), "folder-x") for name in "ab"
    )
    write_record(tmp_path, first)
    write_record(tmp_path, first)

    with pytest.raises(ConfigError, match="name 'pets' is that of"):
        write_record(tmp_path, second)
    assert get_record(tmp_path, "pets") == first


def test_an_unknown_name_says_which_there_are(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    import_folder(ask(folder), data_dir, name="pets")

    with pytest.raises(DataMissingError, match=r"imported as 'cats' .*but pets"):
        registry.open_source({"name": "folder", "imported": "cats"}, data_dir)
    with pytest.raises(ConfigError, match="needs path = a folder, or imported"):
        registry.open_source({"name": "folder"}, data_dir)


def test_problems_are_summed_up_in_one_line_when_opened_without_the_importer(
    tmp_path: Path,
) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    write(folder, {"kind00/x.png": b"hello", "kind01/x.wav": b"hello"})

    with pytest.raises(DataError, match=r"2 problems \(1 bad-image, 1 bad-audio\)") as caught:
        registry.open_source(options(folder), data_dir)

    assert "\n" not in str(caught.value) and "metafleet data import" in str(caught.value)
    assert not prepared_folders(data_dir)


def test_omissions_are_remembered(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    write(folder, {"kind00/x.png": b"hello", "kind01/x.wav": b"hello", "lone/x.png": picture(1)})
    wanted = options(folder, skip_bad=True)

    report = import_folder(ask(folder, skip_bad=True), data_dir, name="pets")
    facts = registry.open_data(wanted, data_dir).summarise().facts

    assert [problem.kind for problem in report.problems] == [
        "bad-image",
        "bad-audio",
        "small-class",
    ]
    assert facts["left out"].startswith("1 bad-image, 1 bad-audio, 1 small-class")
    assert facts["left out, bad-image"] == "kind00/x.png"
    assert facts["left out, small-class"] == "class 'lone'"


def test_a_modality_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"

    source = registry.open_source(options(folder, modalities=["image"]), data_dir)

    assert list(source.modalities) == ["image"]
    with pytest.raises(ConfigError, match="has no 'text'; it has image, audio"):
        registry.open_source(options(folder, modalities=["text"]), data_dir)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": "pets"}, "an absolute path"),
        ({"split_fractions": [0.5, 0.6, 0.2]}, "three shares of sum 1"),
        ({"columns": {"../x": "photo"}}, "small letters, digits and _"),
        ({"columns": {"class_text": "caption"}}, "expected another name: this one is that of"),
        ({"layout": "zip"}, "expected one of"),
        ({"min_items": 0}, "1 or more"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.open_data({"name": "folder", **wrong}, Path())


def test_wrong_options_of_decoders_are_refused(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder")

    with pytest.raises(ConfigError, match="decoder 'image': side=0"):
        registry.open_source(options(folder, image={"side": 0}), tmp_path / "data")


def test_two_imports_at_once_prepare_the_same_folder(tmp_path: Path) -> None:
    folder, data_dir = class_folders(tmp_path / "folder"), tmp_path / "data"
    digests: list[str] = []

    def run() -> None:
        digests.append(registry.open_data(options(folder), data_dir).digest())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(digests) == 4 and len(set(digests)) == 1
    assert len(prepared_folders(data_dir)) == 1


KILLED = """
import os, signal, sys
from metafleet.data.decoding.image import ImageDecoder
from metafleet.orchestrator.cli.main import main

n_decoded = 0
decode = ImageDecoder.decode

def die(self, source, options):
    global n_decoded
    n_decoded += 1
    if n_decoded == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(self, source, options)

ImageDecoder.decode = die
main(["data", "import", sys.argv[1], "--name", "pets", "--seed", sys.argv[2]])
"""


def test_a_killed_import_leaves_nothing_that_passes_for_data(tmp_path: Path) -> None:
    folder, home = class_folders(tmp_path / "folder"), tmp_path / "home"
    environment = {**os.environ, "METAFLEET_HOME": str(home)}
    environment.pop("METAFLEET_DATA_DIR", None)

    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(OTHER_SEED)], env=environment, check=False
    )

    data_dir = home / "data"
    assert ended.returncode == -signal.SIGKILL
    assert not prepared_folders(data_dir)
    assert not list((data_dir / "imported").glob("*"))
    report = import_folder(ask(folder), data_dir, name="pets")
    assert report.prepared is not None
    report.prepared.verify()


def test_splits_with_too_few_classes_for_an_episode_are_reported_with_shares(
    tmp_path: Path,
) -> None:
    folder = class_folders(tmp_path / "folder", items=2)
    wide = EpisodeShape(n_way=4, k_shot=1, n_query=1)
    source = registry.open_source(options(folder), tmp_path / "data")

    with pytest.raises(ConfigError) as refusal:
        source.check(META_VAL, wide)

    advice = 'set data.split="hashed" and data.split_fractions='
    told, shares = str(refusal.value).split(advice)
    assert "has 2 classes; lower n_way or" in told
    wider = options(folder, split="hashed", split_fractions=json.loads(shares))
    registry.open_source(wider, tmp_path / "data").check(META_VAL, wide)
