"""Models of the hub are downloaded only where that is allowed, and only at a commit."""

import hashlib
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from metafleet.encoders.fetching import allow_fetching, fetching, find_folder, may_fetch
from metafleet.encoders.registry import get_encoder
from metafleet.errors import DataMissingError, MetafleetError
from tests.unit.metafleet.encoders import tiny_models as tiny

_COMMIT = "0123456789abcdef" * 2 + "01234567"
_PLACE = f"someone/tiny-vit@{_COMMIT}"


class _Hub:
    """The part of the hub's library that is called, with one model."""

    def __init__(self, model: Path) -> None:
        self.model, self.is_cached, self.asked = model, False, list[dict[str, Any]]()

    def snapshot_download(self, model: str, **asked: Any) -> str:
        assert (model, asked["revision"]) == ("someone/tiny-vit", _COMMIT)
        if asked.get("local_files_only"):
            if not self.is_cached:
                raise FileNotFoundError("not in the cache")
            return str(self.model)
        self.asked.append(asked)
        self.is_cached = True
        return str(self.model)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Hub:
    found = _Hub(tiny.write_vit(tmp_path / "model"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.snapshot_download)
    return found


def test_a_model_is_downloaded_once_where_that_is_allowed(hub: _Hub) -> None:
    with pytest.raises(
        DataMissingError,
        match=r"may not be downloaded here; prepare the data.*\(workers ignore it\)",
    ):
        find_folder("hf:x", _PLACE)
    with fetching(True):
        assert find_folder("hf:x", _PLACE) == hub.model
    assert not may_fetch()

    assert find_folder("hf:x", _PLACE) == hub.model  # it is on this machine now
    assert len(hub.asked) == 1
    assert not any(
        "bin" in pattern or "py" in pattern for pattern in hub.asked[0]["allow_patterns"]
    )
    encoder = get_encoder(f"hf:{_PLACE}", kind="image")
    assert encoder.n_features((3, 32, 32)) == 16
    assert "model.safetensors" in encoder.identity()["weights"]


def _cache(root: Path, model: Path) -> Path:
    """Lay out a downloaded model as the hub's library does. The list of files names all of them."""
    kept = root / "models--someone--tiny-vit"
    snapshot = kept / "snapshots" / _COMMIT
    for folder in (kept / "blobs", kept / "refs", kept / "trees", snapshot):
        folder.mkdir(parents=True)
    (kept / "refs" / "main").write_text(_COMMIT)
    listed = {}
    for path in model.iterdir():
        content = path.read_bytes()
        blob = kept / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / path.name).symlink_to(blob)
        listed[path.name] = {"size": len(content), "blob_id": blob.name[:40]}
    for name in ("README.md", ".gitattributes", "pytorch_model.bin"):  # which are not downloaded
        listed[name] = {"size": 1, "blob_id": "0" * 40}
    tree = {"format_version": 1, "files": listed}
    (kept / "trees" / f"{_COMMIT}.json").write_text(json.dumps(tree))
    return snapshot


def test_a_downloaded_model_is_found_by_the_library_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, root = tiny.write_vit(tmp_path / "model"), tmp_path / "hub"
    snapshot = _cache(root, model)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))

    assert find_folder("hf:x", _PLACE) == snapshot
    assert get_encoder(f"hf:{_PLACE}", kind="image", pooling="max").n_features((3, 32, 32)) == 16

    (snapshot / "config.json").unlink()  # as after an interrupted download
    with pytest.raises(DataMissingError, match="may not be downloaded here"):
        find_folder("hf:x", _PLACE)


@pytest.mark.parametrize("source", ["hf", "onnx"])
@pytest.mark.parametrize("place", ["a" * 5_000, "a\0b", "~no-such-user/model"])
def test_what_cannot_be_a_path_is_one_line(source: str, place: str) -> None:
    with pytest.raises(MetafleetError) as caught:
        get_encoder(f"{source}:{place}", kind="image").identity()

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    with fetching(True), pytest.raises(DataMissingError) as caught:
        find_folder("hf:x", _PLACE)

    assert "cannot be downloaded" in str(caught.value)
    assert "or copy the model's folder here and give its path" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_permission_is_that_of_the_process() -> None:
    allow_fetching(True)
    try:
        with fetching(False):
            assert not may_fetch()
        assert may_fetch()
    finally:
        allow_fetching(False)
