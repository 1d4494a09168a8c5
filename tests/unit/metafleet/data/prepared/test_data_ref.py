"""Prepared data travel by digest: complete, the same bytes, or not at all."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metafleet.data.prepared import data_ref
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.data_ref import DataRef, files_of, find_by_digest, pieces_of, receive
from metafleet.data.prepared.prepared import INDEX, ClassInfo, index_checksum
from metafleet.data.prepared.preparing import Content, find_or_prepare
from metafleet.data.registry import find_features, give, open_data
from metafleet.errors import BlobMissingError, ContractError, DataCorruptError, DataError

OPTIONS = {"name": "toy", "text": {"encoder": "package:toy"}}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_ref, "PIECE_BYTES", 100)


@pytest.fixture
def data(tmp_path: Path) -> ClassData:
    features = np.random.default_rng(5).random((8, 6)).astype(np.float32)
    content = Content(
        classes=[ClassInfo("ä", "", 3), ClassInfo("b", "", 5)],
        arrays={"text": features},
        present={},
        facts={},
        masks={"text": np.arange(8) != 4},
        encoders={"text": "0123456789abcdef"},
        splits={"meta_train": ["b", "ä"]},
    )
    prepared = find_or_prepare(tmp_path / "here" / "prepared" / "toy-1", lambda: content)
    return ClassData("toy", prepared, prepared.splits, ("text",))


@pytest.fixture
def ref(data: ClassData) -> DataRef:
    return DataRef.from_json(DataRef.of(OPTIONS, data).to_json())


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def from_folder(folder: Path) -> Callable[[str, int, int], bytes]:
    def fetch(file: str, number: int, length: int) -> bytes:
        found = (folder / file).read_bytes()[number * 100 : number * 100 + 100]
        assert len(found) == length
        return found

    return fetch


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("received/*") if path.is_dir()]


def test_received_data_are_the_same_bytes_and_give_the_same_digest(
    data: ClassData, ref: DataRef, there: Path
) -> None:
    received = receive(there, ref, from_folder(data.prepared.path))

    for name, n_bytes in files_of(ref, data.prepared).items():
        copy = (received.path / name).read_bytes()
        assert copy == (data.prepared.path / name).read_bytes() and len(copy) == n_bytes
    given = give([(ref, received)])
    opened = open_data(OPTIONS, there, given=given)
    assert opened.digest() == data.digest()
    assert opened.open_classes() == ClassData(
        "toy", received, {"meta_train": ["b", "ä"]}, ("text",)
    )


def test_parts_of_a_mixture_are_given_one_by_one(
    data: ClassData, ref: DataRef, there: Path
) -> None:
    received = receive(there, ref, from_folder(data.prepared.path))
    parts = [{**OPTIONS, "part": "one"}, {**OPTIONS, "part": "two", "weight": 2}]

    opened = open_data({"name": "mixture", "parts": parts}, there, given=give([(ref, received)]))

    assert opened.open_source().modalities == {"text": (6,)}


def test_data_of_several_labels_an_item_stay_so(data: ClassData, there: Path) -> None:
    data = replace(data, label_separator=";")
    ref = DataRef.from_json(DataRef.of(OPTIONS, data).to_json())

    received = receive(there, ref, from_folder(data.prepared.path))

    assert ref.open(received).label_separator == ";"
    assert ref.open(received).digest() == data.digest()


def test_a_copy_that_was_cut_off_more_than_a_day_ago_is_deleted(
    data: ClassData, ref: DataRef, there: Path
) -> None:
    old = there / "received" / f".{ref.sha256}.abcd"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))

    receive(there, ref, from_folder(data.prepared.path))

    assert left_in(there) == [ref.sha256]


def test_they_are_received_once(data: ClassData, ref: DataRef, there: Path) -> None:
    first = receive(there, ref, from_folder(data.prepared.path))

    def refuse(file: str, number: int, length: int) -> bytes:
        raise AssertionError("asked for again")

    assert receive(there, ref, refuse).path == first.path
    assert find_by_digest(there, ref) == first


def test_a_shared_folder_is_used_as_it_is(data: ClassData, ref: DataRef, tmp_path: Path) -> None:
    found = find_by_digest(tmp_path / "here", ref)

    assert found is not None and found.path == data.prepared.path


def test_data_of_that_name_with_other_bits_are_not_used(
    data: ClassData, ref: DataRef, there: Path
) -> None:
    other = Content(
        classes=data.prepared.classes,
        arrays={"text": data.prepared.load("text") + np.float32(1e-6)},
        present={},
        facts={},
    )
    own = find_or_prepare(there / "prepared" / "toy-1", lambda: other)

    assert find_by_digest(there, ref) is None
    received = receive(there, ref, from_folder(data.prepared.path))
    assert received.path != own.path
    np.testing.assert_array_equal(own.load("text"), other.arrays["text"])


@pytest.mark.parametrize("file", [INDEX, "text.npy", "text.present.npy"])
def test_damaged_bytes_leave_nothing_behind(
    data: ClassData, ref: DataRef, there: Path, file: str
) -> None:
    whole = from_folder(data.prepared.path)

    def damaged(name: str, number: int, length: int) -> bytes:
        found = bytearray(whole(name, number, length))
        if name == file and number == 1:
            found[7] ^= 1
        return bytes(found)

    with pytest.raises(DataCorruptError):
        receive(there, ref, damaged)

    assert left_in(there) == [] and find_by_digest(there, ref) is None
    assert receive(there, ref, whole).load("text").shape == (8, 6)


@pytest.mark.parametrize("modality", ["../stolen", "../../../stolen", ".hidden", "a/b"])
def test_an_index_writes_no_file_elsewhere(
    data: ClassData, ref: DataRef, there: Path, modality: str
) -> None:
    index = json.loads((data.prepared.path / INDEX).read_text())
    index["arrays"] = {modality: index["arrays"]["text"]}
    del index["checksum"]
    index["checksum"] = index_checksum(index)
    text = json.dumps(index).encode()
    named = replace(ref, sha256=hashlib.sha256(text).hexdigest(), index_bytes=len(text))
    array = (data.prepared.path / "text.npy").read_bytes()

    def fetch(file: str, number: int, length: int) -> bytes:
        whole = text if file == INDEX else array
        return whole[number * 100 : number * 100 + length]

    before = sorted(there.parent.rglob("*.npy"))
    with pytest.raises(DataCorruptError, match="names the file"):
        receive(there, named, fetch)

    assert left_in(there) == []
    assert sorted(there.parent.rglob("*.npy")) == before


def test_a_lost_piece_leaves_nothing_behind(data: ClassData, ref: DataRef, there: Path) -> None:
    whole = from_folder(data.prepared.path)

    def partly(name: str, number: int, length: int) -> bytes:
        if name == "text.npy" and number == 2:
            raise BlobMissingError("gone")
        return whole(name, number, length)

    with pytest.raises(BlobMissingError):
        receive(there, ref, partly)

    assert left_in(there) == []


def test_a_damaged_copy_is_replaced(data: ClassData, ref: DataRef, there: Path) -> None:
    copy = receive(there, ref, from_folder(data.prepared.path)).path
    (copy / "text.npy").write_bytes(b"short")

    assert find_by_digest(there, ref) is None
    assert receive(there, ref, from_folder(data.prepared.path)).path == copy
    np.testing.assert_array_equal(np.load(copy / "text.npy"), data.prepared.load("text"))


def test_a_folder_that_cannot_be_written_is_named(
    data: ClassData, ref: DataRef, there: Path
) -> None:
    there.write_text("a file")

    with pytest.raises(DataError, match=r"cannot write received data to .*METAFLEET_DATA_DIR"):
        receive(there, ref, from_folder(data.prepared.path))


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../../etc"},
        {"sha256": "A" * 64},
        {"folder": "../prepared"},
        {"index_bytes": "7"},
        {"modalities": "text"},
        {"more": 1},
    ],
)
def test_what_describes_no_data_is_refused(ref: DataRef, change: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        DataRef.from_json(ref.to_json() | change)


def test_pieces_cover_a_file() -> None:
    assert list(pieces_of(250)) == [(0, 100), (1, 100), (2, 50)]
    assert list(pieces_of(200)) == [(0, 100), (1, 100)]
    assert list(pieces_of(0)) == []


def test_data_without_an_encoder_are_not_described(tmp_path: Path) -> None:
    assert find_features({"name": "sinusoid"}, tmp_path) == ()
