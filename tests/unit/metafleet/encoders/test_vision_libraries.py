"""Models of timm and open_clip give the features that the libraries themselves give."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from metafleet.data.decoding.image import ImageDecoder, ImageOptions
from metafleet.encoders.efficientnet_lite import EfficientNetLite0
from metafleet.encoders.registry import get_encoder
from metafleet.encoders.timm_model import rule_of
from metafleet.errors import ConfigError, DataCorruptError, DataMissingError
from tests.unit.metafleet.encoders import tiny_models as tiny
from tests.unit.metafleet.encoders.refusals import assert_refused_in_one_line
from tests.vision_libraries import use_vision_libraries

use_vision_libraries()
import open_clip  # noqa: E402
import timm  # noqa: E402


def _picture(tmp_path: Path, height: int, width: int) -> Path:
    rough = np.random.default_rng(3).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def _features(name: str, path: Path) -> Any:
    encoder = get_encoder(name, kind="image")
    options = ImageOptions(**dict(encoder.reading("image")))
    item = ImageDecoder().decode(path.read_bytes(), options)
    assert encoder.n_features(item.shape) == encoder.encode_part(item[None]).shape[1]
    return encoder.encode_part(item[None])


@pytest.mark.parametrize("size", [(50, 50), (50, 70), (91, 60)])
def test_a_picture_has_the_features_of_timm(size: tuple[int, int], tmp_path: Path) -> None:
    tiny.write_timm(tmp_path / "model")
    path = _picture(tmp_path, *size)

    found = _features(f"timm:{tmp_path / 'model'}", path)

    model = timm.create_model(
        f"local-dir:{tmp_path / 'model'}", pretrained=True, num_classes=0
    ).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )
    with torch.no_grad():
        theirs = model(transform(Image.open(path).convert("RGB"))[None])
    np.testing.assert_allclose(found, theirs, atol=1e-4)


@pytest.mark.parametrize(("pooling", "theirs"), [("class_token", "token"), ("mean", "avg")])
def test_timm_pools_as_asked(pooling: str, theirs: str, tmp_path: Path) -> None:
    model = tiny.write_timm(tmp_path)
    items = tiny.pictures(3)

    found = get_encoder(f"timm:{tmp_path}", kind="image", pooling=pooling).encode_part(items)

    model.reset_classifier(0, theirs)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    with torch.no_grad():
        expected = model((torch.from_numpy(items) / 255 - mean) / std)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_packaged_efficientnet_is_that_of_timm() -> None:
    ours: Any = EfficientNetLite0()
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = torch.load(_weights_of_lite(), map_location="cpu", weights_only=True)
    names = [name for name in theirs.state_dict()]
    theirs.load_state_dict(dict(zip(names, state.values(), strict=True)))
    theirs.reset_classifier(0)
    items = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), np.uint8)

    with torch.no_grad():
        expected = theirs((torch.from_numpy(items).float() / 255 - 0.498) / 0.502)

    np.testing.assert_allclose(ours.encode_part(items), expected, atol=2e-4)


def _weights_of_lite() -> Path:
    from metafleet.encoders.efficientnet_lite import _FILE  # noqa: PLC0415

    return _FILE.find("package:efficientnet-lite0")


def test_pictures_and_texts_have_the_features_of_open_clip(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny.write_open_clip(folder)
    path = _picture(tmp_path, 50, 70)

    seen = _features(f"open_clip:{folder}", path)
    texts = get_encoder(f"open_clip:{folder}", kind="text")
    read = texts.encode_part(tiny.texts("a photo of a dog", "rain"))

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        pixels = transform(Image.open(path).convert("RGB"))[None]
        np.testing.assert_allclose(seen, model.encode_image(pixels), atol=1e-4)
        words = model.encode_text(tokenizer(["a photo of a dog", "rain"]))
        np.testing.assert_allclose(read, words, atol=1e-4)
    assert texts.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert texts.n_features((4096,)) == 8
    assert texts.too_long(tiny.texts("rain " * 10, "rain " * 11)) == 1


def test_a_text_tower_of_transformers_has_the_weights_of_the_folder_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = tiny.write_bert(tmp_path / "base", 12)
    (base / "model.safetensors").unlink()
    folder, model = tiny.write_open_clip_of_bert(tmp_path / "model", base)
    capfd.readouterr()

    found = get_encoder(f"open_clip:{folder}", kind="text").encode_part(tiny.texts("sun", "rain"))

    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["sun", "rain"])
    with torch.no_grad():
        np.testing.assert_allclose(found, model.encode_text(tokens), atol=1e-4)
    assert "randomly" not in capfd.readouterr().err


def _empty(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def _pickle(folder: Path) -> None:
    _empty(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")


def _truncated(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])


def _many(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    for name in ("a", "b"):
        (folder / f"{name}.safetensors").write_bytes(path.read_bytes())
    path.unlink()


def _edit(folder: Path, **model: Any) -> None:
    path = next(folder.glob("*config.json"))
    values = json.loads(path.read_text())
    if "model_cfg" in values:
        values["model_cfg"]["vision_cfg"] |= model
    else:
        values["model_args"] |= model
    path.write_text(json.dumps(values))


_WIDER = {"timm": {"embed_dim": 24, "num_heads": 2}, "open_clip": {"width": 24}}
_DEEPER = {"timm": {"depth": 3}, "open_clip": {"layers": 3}}
_ENDLESS = {"timm": {"depth": 10**9}, "open_clip": {"layers": 10**9}}
_IMMENSE = {"timm": {"embed_dim": 2_000_000}, "open_clip": {"width": 2_000_000}}


@pytest.mark.parametrize("source", ["timm", "open_clip"])
@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (_empty, DataMissingError, "has no weights; expected *.safetensors"),
        (_pickle, ConfigError, "as a pickle alone (pytorch_model.bin), which can run code"),
        (_truncated, DataCorruptError, "are truncated or damaged"),
        (_many, DataMissingError, "has 2 files of weights; expected "),
        (_WIDER, DataCorruptError, "cannot be loaded"),
        (_DEEPER, DataCorruptError, "cannot be loaded"),
        (_ENDLESS, DataCorruptError, "=1000000000, and the weights have"),
        (_IMMENSE, DataMissingError, "GiB are free; choose a smaller model"),
    ],
)
def test_a_folder_that_is_no_sound_model_is_one_line(
    source: str, spoil: Any, error: type[Exception], told: str, tmp_path: Path
) -> None:
    (tiny.write_timm if source == "timm" else tiny.write_open_clip)(tmp_path)
    if callable(spoil):
        spoil(tmp_path)
    else:
        _edit(tmp_path, **spoil[source])
    encoder = get_encoder(f"{source}:{tmp_path}", kind="image")

    assert_refused_in_one_line(encoder, error, told)


@pytest.mark.parametrize("source", ["timm", "open_clip"])
def test_the_only_file_of_weights_may_have_any_name(source: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "published", tmp_path / "renamed"
    (tiny.write_timm if source == "timm" else tiny.write_open_clip)(folder)
    shutil.copytree(folder, other)
    next(other.glob("*.safetensors")).rename(other / "weights.safetensors")
    items = tiny.pictures(2)

    found = get_encoder(f"{source}:{other}", kind="image").encode_part(items)

    expected = get_encoder(f"{source}:{folder}", kind="image").encode_part(items)
    np.testing.assert_array_equal(found, expected)


def test_open_clip_asks_the_network_for_nothing(tmp_path: Path) -> None:
    tiny.write_open_clip(tmp_path)
    path = tmp_path / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"]["text_cfg"] = {"hf_model_name": "someone/some-text-model"}
    path.write_text(json.dumps(values))

    with pytest.raises(DataCorruptError, match="cannot be loaded"):
        get_encoder(f"open_clip:{tmp_path}", kind="image").n_features((3, 32, 32))


@pytest.mark.parametrize(
    ("source", "kind", "pooling", "told"),
    [
        ("timm", "audio", "", "takes image; expected one that takes audio"),
        ("open_clip", "audio", "", "takes image and text; expected one that takes audio"),
        ("timm", "image", "flat", "pooling='flat'; encoder"),
        ("open_clip", "image", "mean", "expects none"),
    ],
)
def test_what_a_library_does_not_do_is_one_line(
    source: str, kind: str, pooling: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        get_encoder(f"{source}:{tmp_path}", kind=kind, pooling=pooling)


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        ("vision_cfg", 3, "vision_cfg=3; expected a table"),
        ("vision_cfg", {"image_size": "a"}, "side='a'; expected a whole number"),
        ("vision_cfg", {"image_size": 32.5}, "side=32.5; expected a whole number"),
        ("vision_cfg", {"image_size": 4096}, "side=4096; expected 1 to 1024"),
        ("vision_cfg", {"image_size": [32, [32]]}, "pictures of [32, [32]]"),
        ("vision_cfg", {"image_size": []}, "pictures of []"),
        ("preprocess_cfg", [1], "preprocess_cfg=[1]; expected a table"),
        ("preprocess_cfg", {"resize_mode": ["a"]}, "resize_mode=['a']"),
        ("preprocess_cfg", {"interpolation": "random"}, "resample='random'; expected one of"),
        ("preprocess_cfg", {"interpolation": 3}, "resample=3; expected a text"),
        ("preprocess_cfg", {"mean": ["a"]}, "mean='a'; expected a finite number"),
        ("preprocess_cfg", {"mean": 0.5}, "mean=0.5; expected a list"),
        ("preprocess_cfg", {"std": [0, 0, 0]}, "std=[0.0, 0.0, 0.0]; expected numbers above 0"),
    ],
)
def test_a_damaged_configuration_of_open_clip_is_one_line(
    part: str, values: Any, told: str, tmp_path: Path
) -> None:
    tiny.write_open_clip(tmp_path)
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    owner = config["model_cfg"] if part == "vision_cfg" else config
    owner[part] = owner[part] | values if isinstance(values, dict) else values
    path.write_text(json.dumps(config))

    with pytest.raises(ConfigError) as caught:
        get_encoder(f"open_clip:{tmp_path}", kind="image").reading("image")

    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_another_library_is_one_line(tmp_path: Path) -> None:
    tiny.write_timm(tmp_path)

    with pytest.raises(ConfigError, match=r"has no open_clip_config\.json with model_cfg"):
        get_encoder(f"open_clip:{tmp_path}", kind="image").identity()
        get_encoder(f"open_clip:{tmp_path}", kind="image").reading("image")


def test_pictures_that_are_not_square_are_refused(tmp_path: Path) -> None:
    tiny.write_timm(tmp_path, crop_mode="border")

    with pytest.raises(ConfigError, match="crop_mode='border'; expected square ones"):
        get_encoder(f"timm:{tmp_path}", kind="image").reading("image")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"input_size": ["a", 32, 32]}, "input_size='a'; expected a whole number"),
        ({"input_size": [32, 32]}, "input_size=[32, 32]"),
        ({"input_size": [3, 0, 0]}, "side=0; expected 1 to 1024"),
        ({"input_size": [3, 32, 48]}, "expected square ones"),
        ({"input_size": [3, 9999, 9999]}, "side=9999; expected 1 to 1024"),
        ({"crop_pct": "most"}, "crop_pct='most'; expected a finite number"),
        ({"crop_pct": 0}, "crop_pct=0"),
        ({"crop_pct": -1}, "crop_pct=-1"),
        ({"crop_pct": 2.5}, "crop_pct=2.5"),
        ({"crop_pct": 1e-320}, "crop_pct=1e-320"),
        ({"mean": ["a"]}, "mean='a'; expected a finite number"),
        ({"std": [0.2, 0, 0.2]}, "std=[0.2, 0.0, 0.2]; expected numbers above 0"),
    ],
)
def test_a_damaged_preprocessing_of_timm_is_one_line(values: dict[str, Any], told: str) -> None:
    sound = {
        "input_size": [3, 32, 32],
        "interpolation": "bicubic",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "crop_pct": 0.9,
        "crop_mode": "center",
    }
    assert rule_of("timm:x", sound).side == 32

    with pytest.raises(ConfigError) as caught:
        rule_of("timm:x", sound | values)

    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_share_in_the_folder_of_timm_is_one_line(tmp_path: Path) -> None:
    tiny.write_timm(tmp_path, crop_pct="most")

    with pytest.raises(ConfigError, match="crop_pct='most'; expected a finite number"):
        get_encoder(f"timm:{tmp_path}", kind="image").reading("image")
