"""Models of transformers whose padding or rows differ from those of BERT and ViT."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from metafleet.encoders.registry import get_encoder
from metafleet.errors import ConfigError, DataError
from tests.unit.metafleet.encoders import tiny_models as tiny

_LAYERS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["", "class_token", "max"])
def test_a_text_has_the_same_features_next_to_a_longer_one(
    padding_side: str, pooling: str, tmp_path: Path
) -> None:
    folder = tiny.write_gpt2(tmp_path, padding_side=padding_side)
    encoder = get_encoder(f"hf:{folder}", kind="text", pooling=pooling)

    alone = encoder.encode_part(tiny.texts("sun in paris"))
    together = encoder.encode_part(tiny.texts("sun in paris", "rain in paris in rain"))

    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)


def test_a_tokenizer_without_a_token_for_padding_is_enough(tmp_path: Path) -> None:
    bare = get_encoder(f"hf:{tiny.write_gpt2(tmp_path / 'bare', pad=None)}", kind="text")
    whole = get_encoder(f"hf:{tiny.write_gpt2(tmp_path / 'whole')}", kind="text")
    texts = tiny.texts("sun", "rain in paris")

    np.testing.assert_allclose(bare.encode_part(texts), whole.encode_part(texts), atol=1e-5)


def test_a_model_of_encoder_and_decoder_gives_the_rows_of_its_encoder(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    model = transformers.T5Model(transformers.T5Config(**sizes, vocab_size=10))
    tiny.spread(model).save_pretrained(tmp_path)
    tiny.write_tokenizer(tmp_path, transformers.BertTokenizerFast, 12)

    found = get_encoder(f"hf:{tmp_path}", kind="text").encode_part(
        tiny.texts("sun", "rain in paris")
    )

    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path)("sun", return_tensors="pt")
    with torch.no_grad():
        theirs = model.eval().get_encoder()(tokens.input_ids).last_hidden_state.mean(1)
    np.testing.assert_allclose(found[:1], theirs, atol=1e-4)


def test_the_vectors_of_two_towers_have_no_other_pooling(tmp_path: Path) -> None:
    encoder = get_encoder(f"hf:{tiny.write_clip(tmp_path)}", kind="image", pooling="mean")

    with pytest.raises(ConfigError, match=r"pooling='mean'; .* has a space that its towers share"):
        encoder.n_features((3, tiny.SIDE, tiny.SIDE))


def test_counting_long_texts_warns_of_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = get_encoder(f"hf:{tiny.write_bert(tmp_path, 8)}", kind="text")
    capfd.readouterr()

    assert encoder.too_long(tiny.texts("rain " * 50)) == 1

    assert capfd.readouterr().err == ""


def _cvt() -> Any:
    sizes: dict[str, Any] = {"embed_dim": [8, 8, 16], "num_heads": [1, 1, 2], "depth": [1, 2, 3]}
    return transformers.CvtModel(transformers.CvtConfig(**sizes))


def _swin() -> Any:
    sizes: dict[str, Any] = {"depths": [1, 1], "num_heads": [1, 2], "embed_dim": 8}
    return transformers.SwinModel(
        transformers.SwinConfig(image_size=64, patch_size=4, window_size=4, **sizes)
    )


def _deit() -> Any:
    return transformers.DeiTModel(transformers.DeiTConfig(**_LAYERS, image_size=64, patch_size=16))


def _rows(folder: Path, items: Any) -> Any:
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(pixel_values=(torch.from_numpy(items) / 255 - mean) / std).last_hidden_state


@pytest.mark.parametrize("pooling", ["", "mean"])
def test_a_map_of_features_is_pooled_over_all_its_places(pooling: str, tmp_path: Path) -> None:
    folder = tiny.write_images(tmp_path, _cvt(), 64)  # with a class token in another output
    items = tiny.pictures(2, 64)

    found = get_encoder(f"hf:{folder}", kind="image", pooling=pooling).encode_part(items)

    np.testing.assert_allclose(found, _rows(folder, items).mean((2, 3)), atol=1e-4)


def test_a_token_of_distillation_is_no_patch(tmp_path: Path) -> None:
    folder, items = tiny.write_images(tmp_path, _deit(), 64), tiny.pictures(2, 64)

    found = get_encoder(f"hf:{folder}", kind="image", pooling="mean").encode_part(items)

    np.testing.assert_allclose(found, _rows(folder, items)[:, 2:].mean(1), atol=1e-4)


@pytest.mark.parametrize("model", [_cvt, _swin])
def test_a_model_without_a_class_token_among_its_rows_has_no_such_pooling(
    model: Any, tmp_path: Path
) -> None:
    folder = tiny.write_images(tmp_path, model(), 64)
    encoder = get_encoder(f"hf:{folder}", kind="image", pooling="class_token")

    with pytest.raises(ConfigError, match=r"pooling='class_token'; .* has none; expected 'mean'"):
        encoder.n_features((3, 64, 64))


def test_a_model_that_hides_random_patches_is_refused(tmp_path: Path) -> None:
    config = transformers.ViTMAEConfig(**_LAYERS, image_size=tiny.SIDE, patch_size=8)
    folder = tiny.write_images(tmp_path, transformers.ViTMAEModel(config))

    with pytest.raises(ConfigError, match="gives other features of the same item each time"):
        get_encoder(f"hf:{folder}", kind="image").n_features((3, tiny.SIDE, tiny.SIDE))


def _in_one_line(kind: str, folder: Path, shape: tuple[int, ...]) -> str:
    with pytest.raises(DataError) as caught:
        get_encoder(f"hf:{folder}", kind=kind).n_features(shape)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_preprocessing_to_another_size_than_the_model_takes_is_one_line(tmp_path: Path) -> None:
    folder = tiny.write_vit(tmp_path)
    tiny.write_preprocessor(folder, size={"height": 48, "width": 48})

    told = _in_one_line("image", folder, (3, 48, 48))

    assert "cannot encode items of shape [3, 48, 48] (ValueError: Input image size" in told


def test_a_sound_shorter_than_the_model_takes_is_one_line(tmp_path: Path) -> None:
    told = _in_one_line("audio", tiny.write_wav2vec2(tmp_path), (5,))

    assert "cannot encode items of shape [5] (RuntimeError: " in told
