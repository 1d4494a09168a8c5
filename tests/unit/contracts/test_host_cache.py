"""Memory shared by the processes of a host: whole files or none, and nothing left behind."""

import errno
import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metafleet.cancellation import cancellable
from metafleet.contracts import host_cache
from metafleet.contracts.codec import decode_tensors, encode, schema_of
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.host_area import HostArea
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.keys import RunKeys
from metafleet.errors import BlobMissingError, ContractError, StaleError
from metafleet.params import digest
from tests.fleet import ROOT
from tests.memory_blobs import MemoryBlobs
from tests.messages import make_sums

KEY = RunKeys("run-1").step("train", 7, epoch=1).blob(0, 0)


@pytest.fixture
def cache(tmp_path: Path) -> HostCache:
    return HostCache(tmp_path / "memory")


@pytest.fixture
def area(cache: HostCache) -> HostArea:
    found = cache.open_area("run-1")
    assert found is not None
    return found


def other_process(area: HostArea, tmp_path: Path) -> HostArea:
    """The same area as a worker sees it."""
    cache = HostCache(tmp_path / "memory")
    found = cache.find_area(cache.host_id, area.name)
    assert found is not None
    return found


def files(tmp_path: Path) -> set[str]:
    return {p.name for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock"}


def put(area: HostArea, data: bytes, key: str = KEY) -> str:
    seal = area.put(key, [memoryview(data)], ttl_s=60)
    assert seal is not None
    return seal


def test_one_process_maps_what_another_puts(area: HostArea, tmp_path: Path) -> None:
    data = os.urandom(10_000)

    seal = put(other_process(area, tmp_path), data)

    assert bytes(area.map_sealed(KEY, 10_000, seal)) == data
    assert bytes(area.map(KEY, 10_000)) == data


def test_files_and_folders_are_their_owners_alone(area: HostArea, tmp_path: Path) -> None:
    put(area, b"data")

    modes = {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (tmp_path / "memory").rglob("*")}

    assert modes == {0}
    assert stat.S_IMODE((tmp_path / "memory").stat().st_mode) == 0o700


def test_a_file_in_place_of_the_sealed_one_is_refused(area: HostArea) -> None:
    seal = put(area, b"data")
    put(area, b"atad")

    with pytest.raises(BlobMissingError, match="not the promised one"):
        area.map_sealed(KEY, 4, seal)


def test_another_length_and_a_symbolic_link_are_refused(area: HostArea, tmp_path: Path) -> None:
    put(area, b"data")
    folder = tmp_path / "memory" / area.name
    (path,) = [p for p in folder.iterdir() if p.name != "lock"]
    with pytest.raises(BlobMissingError):
        area.map(KEY, 5)

    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")

    with pytest.raises(BlobMissingError):
        area.map(KEY, 4)


def test_memory_set_free_is_used_again_and_its_old_name_leads_nowhere(
    area: HostArea, tmp_path: Path
) -> None:
    worker = other_process(area, tmp_path)
    first = put(worker, b"a" * 5000)
    mapped = area.map_sealed(KEY, 5000, first)
    area.set_free(KEY)

    second = put(worker, b"b" * 5000, f"{KEY}1")

    assert area.map_sealed(f"{KEY}1", 5000, second) is mapped
    assert bytes(mapped) == b"b" * 5000
    assert first.split(":")[1] == second.split(":")[1]
    with pytest.raises(BlobMissingError):
        area.map_sealed(KEY, 5000, first)


def test_memory_not_set_free_is_not_touched(area: HostArea, tmp_path: Path) -> None:
    worker = other_process(area, tmp_path)
    kept = area.map_sealed(KEY, 5000, put(worker, b"a" * 5000))
    area.delete(KEY)

    put(worker, b"b" * 5000, f"{KEY}1")

    assert bytes(kept) == b"a" * 5000


def test_a_write_to_a_private_map_changes_no_other_map(area: HostArea) -> None:
    put(area, b"data")

    area.map(KEY, 4)[:] = b"xxxx"

    assert bytes(area.map(KEY, 4)) == b"data"


def test_a_closed_area_leaves_nothing_and_takes_nothing(area: HostArea, tmp_path: Path) -> None:
    put(area, b"data")
    worker = other_process(area, tmp_path)

    area.close()

    assert files(tmp_path) == set()
    assert worker.put(KEY, [memoryview(b"data")], ttl_s=60) is None


def test_a_steps_blobs_go_together(area: HostArea) -> None:
    step = RunKeys("run-1").step("train", 7, epoch=1)
    later = RunKeys("run-1").step("train", 70, epoch=1)
    for keys in (step, later):
        put(area, b"data", keys.blob(3, 1))

    area.delete_all(step.blob_prefix)

    assert bytes(area.map(later.blob(3, 1), 4)) == b"data"
    with pytest.raises(BlobMissingError):
        area.map(step.blob(3, 1), 4)


def test_full_memory_leads_to_the_store_and_is_reported_once(
    area: HostArea,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(handle: int, pieces: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", refuse)
    blobs, sums = MemoryBlobs(), make_sums(3)
    exchange = Exchange(blobs, area)

    with caplog.at_level(logging.WARNING):
        refs = [exchange.put(f"{KEY}{i}", sums) for i in range(3)]

    assert [(bool(ref.digest), ref.seal) for ref in refs] == [(True, "")] * 3
    found = decode_tensors(exchange.get(refs[0], what="it"), schema_of(sums))
    assert digest(found) == digest(sums)
    assert len([r for r in caplog.records if "No space left" in r.message]) == 1
    assert files(tmp_path) == set()


def test_a_write_that_stops_short_goes_on(area: HostArea, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.writev
    monkeypatch.setattr(os, "writev", lambda handle, pieces: write(handle, [pieces[0][:7]]))
    sums = make_sums(1)
    encoded = encode(sums)

    area.put(KEY, encoded.pieces, ttl_s=60)

    assert bytes(area.map(KEY, encoded.n_bytes)) == encoded.join()


def test_a_sum_in_the_memory_of_another_host_is_missing(area: HostArea) -> None:
    ref = Exchange(MemoryBlobs(), area).put(KEY, make_sums(1))

    with pytest.raises(BlobMissingError, match="another host"):
        Exchange(MemoryBlobs(), None).get(ref, what="the sum of shard 0")


def test_a_damaged_sum_in_the_store_is_refused() -> None:
    blobs = MemoryBlobs()
    ref = Exchange(blobs, None).put(KEY, make_sums(1))
    blobs.blobs[KEY] = blobs.blobs[KEY][:-1] + b"\x00"

    with pytest.raises(ContractError, match="hashes to"):
        Exchange(blobs, None).get(ref, what="the sum of shard 0")


def test_folders_of_their_own_are_other_hosts(tmp_path: Path, cache: HostCache) -> None:
    other = HostCache(tmp_path / "other container")

    assert cache.host_id != other.host_id
    assert other.find_area(cache.host_id, "run-x") is None
    assert HostCache(tmp_path / "memory").host_id == cache.host_id


@pytest.mark.parametrize("spoil", ["file", "link"])
def test_a_folder_that_cannot_be_trusted_is_done_without(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "memory"
    if spoil == "file":
        path.write_bytes(b"")
    else:
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real")

    cache = HostCache(path)

    assert cache.host_id == ""
    assert cache.open_area("run-1") is None
    assert cache.fetch_once("run-1", "a" * 64, 4, lambda: b"data") == b"data"


def test_areas_of_the_dead_are_swept_and_those_of_the_living_kept(
    cache: HostCache, area: HostArea, tmp_path: Path
) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from metafleet.contracts.host_cache import HostCache\n"
        "area = HostCache(Path(sys.argv[1])).open_area('run-2')\n"
        "area.put('key', [memoryview(b'data')], ttl_s=600); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "memory")], cwd=ROOT, check=False)
    put(area, b"kept")
    assert len(files(tmp_path)) == 2

    HostCache(tmp_path / "memory").sweep()

    assert len(files(tmp_path)) == 1
    assert bytes(area.map(KEY, 4)) == b"kept"


def test_expired_and_unfinished_files_are_swept(area: HostArea, tmp_path: Path) -> None:
    put(area, b"kept")
    area.put(f"{KEY}1", [memoryview(b"gone")], ttl_s=-1)
    part = tmp_path / "memory" / area.name / ".part-of-a-process-that-died"
    part.write_bytes(b"half")
    long_ago_s = time.time() - 3600
    os.utime(part, (long_ago_s, long_ago_s))
    os.utime(tmp_path / "memory" / area.name / "lock", (long_ago_s, long_ago_s))

    HostCache(tmp_path / "memory").sweep()

    assert bytes(area.map(KEY, 4)) == b"kept"
    assert len(files(tmp_path)) == 1
    assert area.name in {p.name for p in (tmp_path / "memory").iterdir()}


def test_the_newest_downloads_of_a_run_are_kept(cache: HostCache, tmp_path: Path) -> None:
    for number in range(6):
        cache.fetch_once("run-1", f"{number}" * 64, 4, lambda: b"data")

    assert {name[6] for name in files(tmp_path)} == {"3", "4", "5"}


def test_a_process_frozen_in_a_download_does_not_block_others_for_ever(
    cache: HostCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_cache, "_LOCK_PATIENCE_S", 0.05)
    lock = tmp_path / "memory" / "downloads" / f".run-1-{'a' * 64}.lock"

    with host_cache._locked(lock):
        assert cache.fetch_once("run-1", "a" * 64, 4, lambda: b"data") == b"data"
        with cancellable(lambda: True), pytest.raises(StaleError):
            cache.fetch_once("run-1", "a" * 64, 4, lambda: b"data")


def test_the_memory_of_a_run_that_ended_is_given_up_when_the_next_begins(
    cache: HostCache, area: HostArea, tmp_path: Path
) -> None:
    worker = HostCache(tmp_path / "memory")
    own = worker.find_area(worker.host_id, area.name)
    assert own is not None
    put(own, b"data")
    area.close()
    following = cache.open_area("run-2")
    assert following is not None

    worker.find_area(worker.host_id, following.name)

    opened = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [path for path in opened if area.name in path]
