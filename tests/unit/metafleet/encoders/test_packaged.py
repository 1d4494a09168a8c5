"""Encoders whose weights come in a package give features that mean something."""

from typing import Any

import numpy as np
import pytest
import torch

from metafleet.encoders.frames import Frames
from metafleet.encoders.registry import PACKAGED, get_encoder
from metafleet.encoders.text_bytes import TEXT_BYTES
from metafleet.errors import ConfigError

_QUERIES = (
    "how do I freeze my bank account",
    "please block my account at the bank",
    "will it rain in Paris",
)


def _texts(*texts: str) -> Any:
    items = np.zeros((len(texts), TEXT_BYTES), np.uint8)
    for row, text in zip(items, texts, strict=True):
        row[: len(text.encode())] = np.frombuffer(text.encode(), np.uint8)
    return items


@pytest.mark.parametrize("name", ["package:minilm", "package:wordllama"])
def test_sentences_of_one_meaning_have_features_that_are_alike(name: str) -> None:
    encoder = get_encoder(name, kind="text")

    rows = encoder.encode_part(_texts(*_QUERIES))

    assert rows.shape == (3, encoder.n_features((TEXT_BYTES,)))
    card, block, rain = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert card @ block > 0.2 + card @ rain
    np.testing.assert_allclose(encoder.encode_part(_texts(_QUERIES[1]))[0], rows[1], atol=1e-5)


def test_a_sentence_beyond_256_tokens_is_counted_as_cut() -> None:
    encoder = get_encoder("package:minilm", kind="text")

    assert encoder.too_long(_texts("rain " * 300, "rain")) == 1


def test_wordllama_is_the_mean_of_the_vectors_of_its_tokens() -> None:
    from wordllama.inference import WordLlamaInference  # noqa: PLC0415 - a second implementation

    encoder: Any = get_encoder("package:wordllama", kind="text")

    theirs = WordLlamaInference(encoder._table, encoder._tokenizer).embed(list(_QUERIES))

    encoder._tokenizer.no_padding()
    np.testing.assert_allclose(encoder.encode_part(_texts(*_QUERIES)), theirs, atol=1e-6)


def test_a_longer_silence_around_a_word_changes_its_features_little() -> None:
    encoder = get_encoder("package:speech-embedding", kind="audio")
    rng = np.random.default_rng(0)
    word = rng.standard_normal(6000).astype(np.float32) * 0.1 * np.hanning(6000).astype(np.float32)

    rows = [encoder.encode_part(np.pad(word, (pad, pad))[None])[0] for pad in (3200, 3200 + 1280)]

    assert encoder.n_features((12_400,)) == rows[0].size == 96
    cosine = rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])
    assert cosine > 0.9


def test_flat_pooling_keeps_the_rows_of_a_sound() -> None:
    encoder = get_encoder("package:speech-embedding", kind="audio", pooling="flat")

    assert encoder.n_features((16_000,)) == 3 * 96
    assert encoder.encode_part(np.zeros((1, 16_000), np.float32)).shape == (1, 3 * 96)


def test_an_image_encoder_serves_clips_by_the_mean_of_their_frames() -> None:
    images = get_encoder("package:efficientnet-lite0", kind="image")
    clips = Frames(images)
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 224, 224), np.uint8)

    rows = clips.encode_part(frames)

    each = np.stack([images.encode_part(clip) for clip in frames])
    np.testing.assert_allclose(rows, each.mean(axis=1), atol=1e-4)
    assert clips.n_features(frames.shape[1:]) == 1280


def test_batch_norms_are_multiplied_into_convolutions_without_a_change() -> None:
    from metafleet.encoders import efficientnet_lite as lite  # noqa: PLC0415

    torch.manual_seed(0)
    network = lite._Network().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.randn(2, 3, 224, 224)

    with torch.inference_mode():
        before = network(x)
        torch.testing.assert_close(lite._fused(network)(x), before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_an_identity_names_the_digest_of_every_file(name: str) -> None:
    kind = {"speech-embedding": "audio", "resemblyzer": "audio", "efficientnet-lite0": "image"}.get(
        name, "text"
    )

    identity = get_encoder(f"package:{name}", kind=kind).identity()

    assert all(len(digest) == 64 for digest in identity["weights"].values())
    assert all(identity["versions"].values())


@pytest.mark.parametrize(
    ("name", "kind", "pooling", "told"),
    [
        ("package:minilm", "image", "", "encoder 'package:minilm' takes text; expected one that"),
        ("package:none", "text", "", "there is no encoder 'package:none'; expected one of"),
        ("minilmm", "text", "", "encoder='minilmm'; expected a name such as 'package:minilm'"),
        ("package:minilm", "text", "max", "pooling='max'; encoder 'package:minilm' expects none"),
    ],
)
def test_a_name_that_does_not_fit_is_one_line(
    name: str, kind: str, pooling: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        get_encoder(name, kind=kind, pooling=pooling)

    assert str(caught.value).startswith(told)


def test_items_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"duration_s to 0\.775 or more"):
        get_encoder("package:speech-embedding", kind="audio").n_features((8000,))
    with pytest.raises(ConfigError, match=r"takes \[3, 224, 224\]; found \[3, 32, 32\]"):
        get_encoder("package:efficientnet-lite0", kind="image").n_features((3, 32, 32))
