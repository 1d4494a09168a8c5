"""What a worker does without the features of a run."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from metafleet.contracts.keys import RunKeys
from metafleet.contracts.plan import RunPlan
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.data_ref import DataRef
from metafleet.data.prepared.prepared import ClassInfo
from metafleet.data.prepared.preparing import Content, find_or_prepare
from metafleet.data.prepared.received import delete_unused, measure_received
from metafleet.errors import ContractError, FeaturesMissingError
from metafleet.locking import exclusive
from metafleet.workers.received_data import ReceivedData
from tests.memory_blobs import MemoryBlobs
from tests.messages import SPEC, make_job

OPTIONS = {"name": "toy"}


@pytest.fixture
def data(tmp_path: Path) -> ClassData:
    content = Content(
        classes=[ClassInfo("a", "", 4)],
        arrays={"text": np.random.default_rng(5).random((4, 6)).astype(np.float32)},
        present={},
        facts={},
        encoders={"text": {"encoder": "toy"}},
        splits={"meta_train": ["a"]},
    )
    prepared = find_or_prepare(tmp_path / "here" / "prepared" / "toy-1", lambda: content)
    return ClassData("toy", prepared, prepared.splits, ("text",))


@pytest.fixture
def blobs(data: ClassData) -> MemoryBlobs:
    """A store into which the orchestrator has put the features."""
    store, ref = MemoryBlobs(), DataRef.of(OPTIONS, data)
    for path in data.prepared.path.iterdir():
        store.put(RunKeys("run-1").data(ref.sha256, path.name, 0), path.read_bytes(), ttl_s=9)
    return store


def opened(blobs: MemoryBlobs, data: ClassData, folder: Path) -> list[ClassData]:
    received = ReceivedData(blobs, folder)
    return list(received.open(make_job(), [DataRef.of(OPTIONS, data)]).values())


def test_features_in_the_store_are_opened_and_read_once(
    blobs: MemoryBlobs, data: ClassData, tmp_path: Path
) -> None:
    (first,) = opened(blobs, data, tmp_path / "there")
    n_reads = len(blobs.reads)
    (again,) = opened(blobs, data, tmp_path / "there")

    assert first.digest() == again.digest() == data.digest()
    assert len(blobs.reads) == n_reads == 2  # the index and one array


@pytest.mark.parametrize("fault", ["gone", "truncated", "damaged"])
def test_features_that_are_not_whole_are_asked_for_again(
    blobs: MemoryBlobs, data: ClassData, tmp_path: Path, fault: str
) -> None:
    key = next(key for key in blobs.blobs if key.endswith("text.npy:0"))
    whole = blobs.blobs.pop(key)
    if fault != "gone":
        blobs.blobs[key] = whole[:-1] + (b"" if fault == "truncated" else bytes([whole[-1] ^ 1]))

    with pytest.raises(FeaturesMissingError, match="the features of 'toy' are not on this host"):
        opened(blobs, data, tmp_path / "there")

    assert not [path for path in (tmp_path / "there" / "received").iterdir() if path.is_dir()]
    blobs.blobs[key] = whole
    assert opened(blobs, data, tmp_path / "there")[0].digest() == data.digest()


def test_a_plan_is_read_as_it_was_written(data: ClassData) -> None:
    with_features = RunPlan(SPEC, (DataRef.of(OPTIONS, data),))

    assert RunPlan.from_bytes(RunPlan(SPEC).to_bytes()) == RunPlan(SPEC)
    assert RunPlan.from_bytes(with_features.to_bytes()).features[0].sha256 == (
        with_features.features[0].sha256
    )
    assert b"features" not in RunPlan(SPEC).to_bytes()  # as without this


@pytest.mark.parametrize("text", [b"[]", b'{"features": 3}', b'{"features": [3]}', b"{}"])
def test_what_is_no_plan_is_refused(text: bytes) -> None:
    with pytest.raises(ContractError):
        RunPlan.from_bytes(text)


def used_days_ago(folder: Path, days: float) -> None:
    at_s = time.time() - days * 86400
    os.utime(folder, (at_s, at_s))


def other_copy(data_dir: Path, name: str, *, days: float) -> Path:
    """A copy that an earlier run has received, last used so many days ago."""
    copy = data_dir / "received" / (name * 64)
    copy.mkdir(parents=True)
    (copy / "text.npy").write_bytes(b"x" * 100)
    copy.with_name(f".{copy.name}.lock").touch()
    used_days_ago(copy, days)
    return copy


def test_copies_that_no_run_has_used_for_a_while_are_deleted(
    blobs: MemoryBlobs, data: ClassData, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    old, young = other_copy(there, "a", days=15), other_copy(there, "b", days=13)
    coming = other_copy(there, "c", days=99)
    (there / "received" / "mine.txt").write_text("not a copy")
    used_days_ago(there / "received" / "mine.txt", 99)

    with exclusive(coming.with_name(f".{coming.name}.lock")):  # a process is receiving it
        opened(blobs, data, there)

    left = {path.name for path in (there / "received").iterdir() if not path.name.startswith(".")}
    assert old.name not in left
    assert left >= {young.name, coming.name, "mine.txt"} and len(left) == 4
    assert measure_received(there)[0] == 3


def test_what_a_job_uses_is_never_old(
    blobs: MemoryBlobs, data: ClassData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received, job = ReceivedData(blobs, tmp_path / "there"), make_job()
    received.open(job, [DataRef.of(OPTIONS, data)])
    (copy,) = (p for p in (tmp_path / "there" / "received").iterdir() if p.is_dir())
    used_days_ago(copy, 15)  # as if the job took two weeks
    received.note_use(job.plan)
    assert time.time() - copy.stat().st_mtime > 86400  # once an hour is enough
    later_s = time.monotonic() + 3601

    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    received.note_use(job.plan)

    assert delete_unused(tmp_path / "there", unused_days=14) == []
    used_days_ago(copy, 15)
    received.open(job, [DataRef.of(OPTIONS, data)])
    assert delete_unused(tmp_path / "there", unused_days=14) == []
    used_days_ago(copy, 15)
    assert delete_unused(tmp_path / "there", unused_days=14) == [copy]
