"""Pictures without files are encoded as dark ink on white paper."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metafleet.data.decoding.ink import encode_ink, ink_recipe
from metafleet.data.registry import open_data
from metafleet.data.sets import fsdd, omniglot
from metafleet.data.sets.fsdd import Fsdd
from metafleet.data.sets.fsdd_files import Recordings
from metafleet.data.sets.mnist import Digits
from metafleet.data.sets.omniglot import Omniglot
from metafleet.data.sets.omniglot_classes import CHARACTERS, N_DRAWERS
from metafleet.data.sets.omniglot_readers import Drawings, OmniglotSource
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


@pytest.fixture
def few(tmp_path: Path) -> tuple[EncoderChoice, Any, Any]:
    """An encoder, ten pictures and their features."""
    choice = EncoderChoice(f"hf:{tiny.write_vit(tmp_path / 'vit')}")
    scratch = tmp_path / "prepared" / "few"
    scratch.mkdir(parents=True)
    images = np.random.default_rng(2).integers(0, 256, (10, 28, 28), np.uint8)
    found = encode_ink(images, choice, scratch, no_progress)
    return choice, images, np.array(found.arrays["image"])


def test_drawings_of_omniglot_have_features_and_their_encoder(
    few: tuple[EncoderChoice, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, images, features = few
    numbers = np.arange(4 * N_DRAWERS) % 10
    drawings = Drawings(images[numbers], None)
    source = OmniglotSource("npz", False, "a fingerprint", lambda strokes, progress: drawings)
    monkeypatch.setattr(omniglot, "CHARACTERS", CHARACTERS[:4])
    options = omniglot.OmniglotOptions(image=choice)
    scratch = tmp_path / "prepared" / "omniglot"
    scratch.mkdir()

    content = omniglot._read(source, options, scratch, no_progress)

    np.testing.assert_allclose(content.arrays["image"], features[numbers], atol=1e-4)
    assert content.encoders["image"]["encoder"] == "hf"
    plain = Omniglot().recipe(omniglot.OmniglotOptions())
    assert Omniglot().recipe(options) != plain and "image" not in plain


def test_written_digits_of_fsdd_have_features_and_their_encoder(
    few: tuple[EncoderChoice, Any, Any], tmp_path: Path
) -> None:
    choice, images, features = few
    labels = np.arange(3000) % 10
    digits = Digits("a fingerprint", lambda: (images[labels], labels))
    recordings = Recordings("folder", "another", dict)
    options = fsdd.FsddOptions(modalities=("image",), digits="here", image=choice)
    scratch = tmp_path / "prepared" / "fsdd"
    scratch.mkdir()

    content = fsdd._read(recordings, digits, options, scratch, no_progress)

    spoken = [digit for _ in range(3) for digit in range(10)]  # each split has all the digits
    expected = np.concatenate(
        [
            np.repeat(features[digit : digit + 1], each.n_items, axis=0)
            for digit, each in zip(spoken, content.classes, strict=True)
        ]
    )
    np.testing.assert_allclose(content.arrays["image"], expected, atol=1e-4)
    assert content.encoders["image"]["encoder"] == "hf"
    assert Fsdd().recipe(options)["image"] != Fsdd().recipe(replace(options, image=NO_ENCODER))


@pytest.mark.parametrize("name", ["glyphs", "omniglot", "fsdd"])
def test_a_pooling_without_an_encoder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pooling='mean'"):
        open_data({"name": name, "image": {"pooling": "mean"}}, tmp_path)
