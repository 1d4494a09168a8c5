"""One contract for every blob store: Redis, a shared directory, and what fsspec reaches."""

import os
import stat
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest

from metafleet.contracts.blobs import CHUNK_BYTES, BlobStore, DirectoryBlobStore, RedisBlobStore
from metafleet.contracts.connections import connect
from metafleet.contracts.object_store import ObjectBlobStore
from metafleet.contracts.private_files import private_files
from metafleet.errors import (
    BlobMissingError,
    BlobStoreFullError,
    BrokerUnavailableError,
    ConfigError,
)
from tests.fleet import wait_until
from tests.redis_server import RedisServer


@pytest.fixture(params=["redis", "directory", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "directory":
        return DirectoryBlobStore(tmp_path / "shared" / "blobs")
    if request.param == "objects":
        return ObjectBlobStore(f"memory://{uuid.uuid4().hex}/blobs")
    server: RedisServer = request.getfixturevalue("standing_redis")
    return RedisBlobStore(server.url)


@pytest.fixture
def key() -> str:
    return f"mf:{{{uuid.uuid4().hex}}}:train:e1:7:blob:0:0"


class TestEveryBlobStore:
    @pytest.mark.parametrize("n_bytes", [0, 1, 4096])
    def test_gives_back_what_was_put(self, store: BlobStore, key: str, n_bytes: int) -> None:
        data = os.urandom(n_bytes)

        store.put(key, data, ttl_s=60)

        assert store.get(key, n_bytes) == data

    @pytest.mark.parametrize("n_bytes", [CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 12_345])
    def test_gives_back_what_is_larger_than_a_chunk(
        self, store: BlobStore, key: str, n_bytes: int
    ) -> None:
        data = os.urandom(1024) * (n_bytes // 1024 + 1)
        data = data[:n_bytes]

        store.put(key, data, ttl_s=60)

        assert store.get(key, n_bytes) == data
        store.delete(key, n_bytes)
        with pytest.raises(BlobMissingError):
            store.get(key, n_bytes)

    def test_says_what_is_missing(self, store: BlobStore, key: str) -> None:
        with pytest.raises(BlobMissingError, match=r"blob .*:blob:0:0 of 10 bytes"):
            store.get(key, 10)

    @pytest.mark.parametrize("n_bytes", [0, 9, 11, CHUNK_BYTES + 10])
    def test_gives_nothing_of_another_length(
        self, store: BlobStore, key: str, n_bytes: int
    ) -> None:
        store.put(key, b"ten bytes.", ttl_s=60)

        with pytest.raises(BlobMissingError):
            store.get(key, n_bytes)

    def test_forgets_what_was_deleted(self, store: BlobStore, key: str) -> None:
        store.put(key, b"data", ttl_s=60)
        store.put(f"{key}0", b"other", ttl_s=60)

        store.delete(key, 4)

        with pytest.raises(BlobMissingError):
            store.get(key, 4)
        assert store.get(f"{key}0", 5) == b"other"

    def test_deletes_twice_without_complaint(self, store: BlobStore, key: str) -> None:
        store.delete(key, 4)
        store.delete(key, 2 * CHUNK_BYTES)

    def test_is_never_seen_half_written_by_many_writers(self, store: BlobStore, key: str) -> None:
        contents = [bytes([letter]) * 300_000 for letter in range(4)]
        writers = [
            threading.Thread(target=lambda d=data: [store.put(key, d, ttl_s=60) for _ in range(10)])
            for data in contents
        ]
        store.put(key, contents[0], ttl_s=60)
        for writer in writers:
            writer.start()

        while any(writer.is_alive() for writer in writers):
            assert store.get(key, 300_000) in contents
        for writer in writers:
            writer.join()

        assert store.get(key, 300_000) in contents

    def test_keeps_every_blob_of_many_writers(self, store: BlobStore, key: str) -> None:
        def write(writer: int) -> None:
            for i in range(10):
                store.put(f"{key}:{writer}:{i}", b"%d %d" % (writer, i), ttl_s=60)

        writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()

        assert all(
            store.get(f"{key}:{writer}:{i}", 3) == b"%d %d" % (writer, i)
            for writer in range(4)
            for i in range(10)
        )


def test_redis_gives_every_chunk_a_time_to_live(standing_redis: RedisServer, key: str) -> None:
    RedisBlobStore(standing_redis.url).put(key, bytes(CHUNK_BYTES + 1), ttl_s=60)

    with connect(standing_redis.url) as client:
        chunks = list(client.scan_iter(f"{key}*"))
        assert len(chunks) == 2
        assert all(0 < client.pttl(chunk) <= 60_000 for chunk in chunks)


def test_redis_forgets_what_expired(standing_redis: RedisServer, key: str) -> None:
    store = RedisBlobStore(standing_redis.url)
    store.put(key, b"data", ttl_s=0.05)

    def is_gone() -> bool:
        try:
            store.get(key, 4)
        except BlobMissingError:
            return True
        return False

    wait_until(is_gone, "expiry", 5)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_redis_gives_nothing_when_one_chunk_is_lost(
    standing_redis: RedisServer, key: str, lost: int
) -> None:
    store = RedisBlobStore(standing_redis.url)
    store.put(key, bytes(2 * CHUNK_BYTES + 1), ttl_s=60)

    with connect(standing_redis.url) as client:
        client.delete(f"{key}:{lost}")

    with pytest.raises(BlobMissingError):
        store.get(key, 2 * CHUNK_BYTES + 1)
    store.delete(key, 2 * CHUNK_BYTES + 1)


def test_a_full_redis_is_said_to_be_full() -> None:
    server = RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    try:
        store = RedisBlobStore(server.url)
        with pytest.raises(
            BlobStoreFullError, match=r"blob:\d of 1048576 bytes does not fit; raise its maxmemory"
        ):
            for number in range(4):
                store.put(f"blob:{number}", os.urandom(2**20), ttl_s=60)
    finally:
        server.stop()


def test_a_wrong_password_is_said_to_be_wrong(standing_redis: RedisServer) -> None:
    store = RedisBlobStore(f"redis://:other@127.0.0.1:{standing_redis.port}/0")

    with pytest.raises(ConfigError, match="refused the password") as caught:
        store.get("key", 1)

    assert ":other@" not in str(caught.value)


def test_a_missing_password_is_said_to_be_missing(standing_redis: RedisServer) -> None:
    store = RedisBlobStore(f"redis://127.0.0.1:{standing_redis.port}/0")

    with pytest.raises(ConfigError, match="password"):
        store.get("key", 1)


def test_a_directory_is_swept_of_what_expired_but_of_nothing_else(tmp_path: Path) -> None:
    DirectoryBlobStore(tmp_path).put("mf:old", b"data", ttl_s=60)
    DirectoryBlobStore(tmp_path).put("mf:kept", b"data", ttl_s=600)
    (tmp_path / "thesis.tex").write_text("of the user's own")
    (tmp_path / "folder").mkdir()
    long_ago_s = time.time() - 120
    for name in ("mf%3Aold", "thesis.tex", "folder"):
        os.utime(tmp_path / name, (long_ago_s, long_ago_s))

    store = DirectoryBlobStore(tmp_path)
    store.put("mf:new", b"data", ttl_s=60)

    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"mf%3Akept", "mf%3Anew", "thesis.tex", "folder"}


@pytest.mark.parametrize(("folder", "mode"), [(0o755, 0o644), (0o2770, 0o660), (0o700, 0o600)])
def test_a_directory_keeps_files_as_open_as_it_is_whatever_the_umask(
    tmp_path: Path, folder: int, mode: int
) -> None:
    tmp_path.chmod(folder)
    with private_files():
        DirectoryBlobStore(tmp_path).put("mf:key", b"data", ttl_s=60)

    assert stat.S_IMODE((tmp_path / "mf%3Akey").stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_directory_is_read_by_workers_of_another_user() -> None:
    with tempfile.TemporaryDirectory(prefix="mf-blobs-") as folder:  # pytest's own are closed
        Path(folder).chmod(0o755)
        DirectoryBlobStore(Path(folder)).put("mf:key", b"data", ttl_s=60)
        os.seteuid(65534)
        try:
            found = DirectoryBlobStore(Path(folder)).get("mf:key", 4)
        finally:
            os.seteuid(0)

    assert found == b"data"


def test_a_directory_that_fails_while_writing_keeps_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)

    with pytest.raises(BrokerUnavailableError, match="No space left on device"):
        DirectoryBlobStore(tmp_path).put("key", b"data", ttl_s=60)

    assert list(tmp_path.iterdir()) == []


def test_objects_are_swept_when_they_are_older_than_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}/blobs"
    ObjectBlobStore(url).put("old", b"data", ttl_s=60)
    two_days_on_s = time.time() + 2 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: two_days_on_s)

    ObjectBlobStore(url).put("new", b"data", ttl_s=60)

    with pytest.raises(BlobMissingError):
        ObjectBlobStore(url).get("old", 4)
    assert ObjectBlobStore(url).get("new", 4) == b"data"


def test_objects_out_of_reach_are_said_to_be_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectBlobStore(f"memory://{uuid.uuid4().hex}")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(type(store._files), "pipe_file", refuse)

    with pytest.raises(BrokerUnavailableError, match=r"cannot be used \(PermissionError"):
        store.put("key", b"data", ttl_s=60)
