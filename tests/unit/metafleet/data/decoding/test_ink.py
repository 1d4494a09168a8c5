"""Pictures without files are encoded as dark ink on white paper."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metafleet.data.decoding.ink import encode_ink, ink_recipe
from metafleet.data.registry import open_data
from metafleet.data.summary import no_progress
from metafleet.encoders.choice import NO_ENCODER, EncoderChoice
from metafleet.encoders.registry import get_encoder
from metafleet.errors import ConfigError
from tests.unit.metafleet.encoders import tiny_models as tiny


def _ink(n: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, (n, 32, 32), np.uint8)


def test_features_are_those_of_the_picture_with_light_paper(tmp_path: Path) -> None:
    name = f"hf:{tiny.write_vit(tmp_path / 'vit')}"
    images = _ink(5)
    scratch = tmp_path / "prepared" / "scratch"
    scratch.mkdir(parents=True)

    found = encode_ink(images, EncoderChoice(name), scratch, no_progress)

    seen = np.repeat(255 - images[:, None], 3, axis=1)
    expected = get_encoder(name, kind="image").encode_part(seen)
    np.testing.assert_allclose(found.arrays["image"], expected, atol=1e-5)
    assert "model.safetensors" in found.encoders["image"]["weights"]


def test_without_an_encoder_nothing_changes(tmp_path: Path) -> None:
    images = _ink(3)

    found = encode_ink(images, NO_ENCODER, tmp_path, no_progress)

    assert found.arrays["image"] is images
    assert found.encoders == {} == ink_recipe(NO_ENCODER)


def test_glyphs_have_features_and_their_encoder(tmp_path: Path) -> None:
    name = f"hf:{tiny.write_vit(tmp_path / 'vit')}"
    options = {"name": "glyphs", "min_faces": 16, "image": {"encoder": name}}

    data = open_data(options, tmp_path / "data").open_classes()

    assert data is not None
    info = data.prepared.arrays["image"]
    assert info.shape == (data.prepared.n_items, 16)
    assert info.encoder
    assert data.prepared.encoders["image"]["encoder"] == "hf"


@pytest.mark.parametrize("name", ["glyphs", "omniglot", "fsdd"])
def test_a_pooling_without_an_encoder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pooling='mean'"):
        open_data({"name": name, "image": {"pooling": "mean"}}, tmp_path)
