import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from metafleet.data.prepared.prepared import ClassInfo, find_prepared, folder_of
from metafleet.data.prepared.preparing import Content, find_or_prepare
from metafleet.errors import DataCorruptError, DataError, DataMissingError

RECIPE = {"version": 1, "size": 3}


def make_content(seed: int = 0) -> Content:
    rng = np.random.default_rng(seed)
    return Content(
        classes=[ClassInfo("ä", "north", 2), ClassInfo("b", "south", 3)],
        arrays={
            "image": rng.integers(0, 255, (5, 4, 4), dtype=np.uint8),
            "stroke": rng.random((5, 6, 3)).astype(np.float16),
        },
        present={"stroke": 4},
        facts={"made by": "a test"},
    )


def refuse() -> Content:
    raise AssertionError("it was prepared twice")


def test_prepared_data_are_read_back_completely(tmp_path):
    folder = folder_of(tmp_path, "toy", RECIPE)
    content = make_content()

    written = find_or_prepare(folder, make_content)
    found = find_or_prepare(folder, refuse)

    assert written == found == find_prepared(folder)
    assert list(found.classes) == content.classes
    assert found.facts == content.facts
    assert found.arrays["stroke"].n_present == 4 and found.arrays["image"].n_present == 5
    for modality, array in content.arrays.items():
        np.testing.assert_array_equal(found.load(modality), array)
    found.verify()


def test_a_folder_belongs_to_one_recipe(tmp_path):
    folder = folder_of(tmp_path, "toy", RECIPE)

    assert folder == folder_of(tmp_path, "toy", dict(reversed(RECIPE.items())))
    assert folder != folder_of(tmp_path, "toy", RECIPE | {"size": 4})
    assert folder != folder_of(tmp_path, "other", RECIPE)


def test_digests_depend_on_content_alone(tmp_path):
    one = find_or_prepare(folder_of(tmp_path / "one", "toy", RECIPE), make_content)
    two = find_or_prepare(folder_of(tmp_path / "two", "toy", RECIPE), make_content)
    other = find_or_prepare(folder_of(tmp_path / "three", "toy", RECIPE), lambda: make_content(1))

    assert one.arrays == two.arrays
    assert one.arrays["image"].sha256 != other.arrays["image"].sha256


def test_a_missing_folder_gives_none(tmp_path):
    assert find_prepared(folder_of(tmp_path, "toy", RECIPE)) is None


def test_an_unknown_modality_is_named(tmp_path):
    prepared = find_or_prepare(folder_of(tmp_path, "toy", RECIPE), make_content)

    with pytest.raises(DataMissingError, match="no modality 'sound'; they have image, stroke"):
        prepared.load("sound")


def truncate(folder: Path) -> None:
    path = folder / "image.npy"
    path.write_bytes(path.read_bytes()[:-7])


def remove_array(folder: Path) -> None:
    (folder / "stroke.npy").unlink()


def remove_index(folder: Path) -> None:
    (folder / "index.json").unlink()


def garble_index(folder: Path) -> None:
    (folder / "index.json").write_bytes(b"\xff\xfe{")


def edit_index(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    index["classes"][0][2] += 1
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def empty_index(folder: Path) -> None:
    (folder / "index.json").write_text("[]")


def swap_array(folder: Path) -> None:
    size = (folder / "image.npy").stat().st_size
    np.save(folder / "image.npy", np.zeros((5, 2, 8), np.uint8))
    assert (folder / "image.npy").stat().st_size == size


DAMAGES = [
    truncate,
    remove_array,
    remove_index,
    garble_index,
    edit_index,
    empty_index,
    swap_array,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_reported_and_repaired(tmp_path, damage):
    folder = folder_of(tmp_path, "toy", RECIPE)
    find_or_prepare(folder, make_content)
    damage(folder)

    with pytest.raises(DataCorruptError, match=r"prepared data are damaged: .*; delete .* again"):
        find_prepared(folder)

    find_or_prepare(folder, make_content).verify()


def test_one_changed_byte_is_found_by_verify(tmp_path):
    folder = folder_of(tmp_path, "toy", RECIPE)
    prepared = find_or_prepare(folder, make_content)
    data = bytearray((folder / "stroke.npy").read_bytes())
    data[-3] ^= 1
    (folder / "stroke.npy").write_bytes(data)

    with pytest.raises(DataCorruptError, match=r"stroke\.npy: its sha256 differs"):
        prepared.verify()


def test_a_failed_preparation_leaves_nothing(tmp_path):
    folder = folder_of(tmp_path, "toy", RECIPE)
    broken = make_content()
    broken = Content(broken.classes[:1], broken.arrays, {}, {})

    with pytest.raises(DataError, match="'image' has 5 rows but the classes have 2 items"):
        find_or_prepare(folder, lambda: broken)

    assert [path.name for path in folder.parent.iterdir()] == [f".{folder.name}.lock"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "prepared").write_text("a file where a folder should be")

    with pytest.raises(DataError, match="METAFLEET_DATA_DIR") as caught:
        find_or_prepare(folder_of(tmp_path, "toy", RECIPE), make_content)
    assert "\n" not in str(caught.value)


def test_an_original_that_cannot_be_read_is_not_taken_for_a_full_disk(tmp_path):
    def make() -> Content:
        raise PermissionError(13, "Permission denied", "original.png")

    with pytest.raises(DataError, match=r"cannot read what toy-.* is made from"):
        find_or_prepare(folder_of(tmp_path, "toy", RECIPE), make)


def _prepare_counted(folder: Path, counts: Path, barrier) -> None:
    def make() -> Content:
        with counts.open("a") as handle:
            handle.write("x")
        return make_content()

    barrier.wait(timeout=60)
    find_or_prepare(folder, make).verify()


def test_processes_that_prepare_at_once_do_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    folder, counts, barrier = folder_of(tmp_path, "toy", RECIPE), tmp_path / "n", context.Barrier(4)
    processes = [
        context.Process(target=_prepare_counted, args=(folder, counts, barrier)) for _ in range(4)
    ]

    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)

    assert [process.exitcode for process in processes] == [0] * 4
    assert counts.read_text() == "x"
    assert sorted(p.name for p in folder.parent.iterdir()) == [f".{folder.name}.lock", folder.name]
