"""Features are stored as they are, or refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metafleet.data.decoding.features import encode_column
from metafleet.data.decoding.row_file import RowFile
from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.errors import DataError


class _Same(PretrainedEncoder):
    """The features are the item's values."""

    name, kinds, batch_items = "same", frozenset(("table",)), 2

    def reading(self, kind: str) -> Mapping[str, Any]:
        return {}

    def identity(self) -> Mapping[str, Any]:
        return {"encoder": self.name}

    def n_features(self, shape: tuple[int, ...]) -> int:
        return shape[0]

    def encode(self, items: Array) -> Array:
        return items.astype(np.float32)


def encoded(items: Array, folder: Path, storage: str) -> Array:
    file = RowFile(folder / "rows.npy", np.dtype(storage), items.shape)
    rows = range(len(items))
    encode_column(_Same(), items, rows, file, store=folder / "features")
    file.close()
    return file.load()


def test_features_that_the_storage_cannot_keep_are_refused(tmp_path: Path) -> None:
    items = np.array([[1.0, 65504.0], [2.0, -70000.0]], np.float32)

    with pytest.raises(DataError, match="size 70000, but storage='float16' keeps at most 65504"):
        encoded(items, tmp_path, "float16")

    np.testing.assert_array_equal(encoded(items, tmp_path, "float32"), items)
    np.testing.assert_array_equal(encoded(items[:1], tmp_path, "float16"), items[:1])


def test_one_encoder_may_give_longer_items_more_features(tmp_path: Path) -> None:
    items = np.arange(18, dtype=np.float32).reshape(3, 6)
    widths = (3, 6, 4, 3, 6)

    for width in widths:
        found = encoded(items[:, :width].copy(), tmp_path, "float32")
        np.testing.assert_array_equal(found, items[:, :width])

    assert len(list((tmp_path / "features").iterdir())) == len(set(widths))


class _Interrupted(_Same):
    def encode(self, items: Array) -> Array:
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_stored", [True, False])
def test_who_interrupts_is_told_that_finished_batches_are_kept(
    tmp_path: Path, is_stored: bool
) -> None:
    file = RowFile(tmp_path / "rows.npy", np.dtype("float32"), (4, 2))
    items, store = np.ones((4, 2), np.float32), tmp_path / "features" if is_stored else None

    with pytest.raises(KeyboardInterrupt) as caught:
        encode_column(_Interrupted(), items, range(4), file, store=store)

    told = ["features of finished batches are kept; the same command goes on"] * is_stored
    assert getattr(caught.value, "__notes__", []) == told
