"""Which blob store a URL leads to."""

import sys
from pathlib import Path

import pytest

from metafleet.contracts.blobs import DirectoryBlobStore, RedisBlobStore, open_blob_store
from metafleet.contracts.object_store import ObjectBlobStore
from metafleet.errors import BrokerUnavailableError, ConfigError


@pytest.mark.parametrize("url", ["redis://host/0", "rediss://:pw@host:6380/1", "unix:///run/x"])
def test_redis_urls_lead_to_redis_without_connecting(url: str) -> None:
    assert isinstance(open_blob_store(url), RedisBlobStore)


def test_a_file_url_leads_to_its_folder_spaces_and_all(tmp_path: Path) -> None:
    folder = tmp_path / "with space"

    store = open_blob_store(folder.as_uri())
    store.put("key", b"data", ttl_s=60)

    assert isinstance(store, DirectoryBlobStore)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"data"]


@pytest.mark.parametrize("url", ["ftp://bucket", "", "host:6379", "http://:geheim@host"])
def test_other_urls_are_refused_naming_those_that_work(url: str) -> None:
    with pytest.raises(ConfigError, match="expected redis://, rediss:// or file:///path") as caught:
        open_blob_store(url)

    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["file://", "file://folder/x", "file://./x"])
def test_a_folder_that_is_not_absolute_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not absolute"):
        open_blob_store(url)


def test_a_folder_that_cannot_be_used_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DirectoryBlobStore(tmp_path / "file")

    for call in (
        lambda: store.put("key", b"data", ttl_s=60),
        lambda: store.get("key", 4),
        lambda: store.delete("key", 4),
    ):
        with pytest.raises(BrokerUnavailableError, match=f"{tmp_path}/file cannot be used"):
            call()


def test_an_object_stores_url_leads_to_fsspec() -> None:
    assert isinstance(open_blob_store("memory://blobs"), ObjectBlobStore)


def test_a_missing_fsspec_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)

    with pytest.raises(ConfigError, match=r"needs fsspec; install it with .*metafleet\[objects\]"):
        open_blob_store("s3://bucket/folder")


def test_a_missing_package_for_a_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)

    with pytest.raises(ConfigError, match="needs another package"):
        open_blob_store("gs://bucket")
