"""Models of transformers give the features that the library itself gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from metafleet.data.decoding.image import ImageDecoder, ImageOptions
from metafleet.encoders.registry import get_encoder
from metafleet.errors import ConfigError, DataCorruptError, DataMissingError, MetafleetError
from tests.unit.metafleet.encoders import tiny_models as tiny
from tests.unit.metafleet.encoders.refusals import assert_refused_in_one_line


def _model(folder: Path) -> Any:
    return transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def _png(picture: Any, tmp_path: Path) -> bytes:
    path = tmp_path / "picture.png"
    Image.fromarray(picture.transpose(1, 2, 0)).save(path)
    return path.read_bytes()


def test_a_picture_has_the_class_token_of_the_library(tmp_path: Path) -> None:
    folder = tiny.write_vit(tmp_path / "vit")
    encoder = get_encoder(f"hf:{folder}", kind="image")
    picture = tiny.pictures(1, side=45)[0]
    source = _png(picture, tmp_path)

    options = ImageOptions(**dict(encoder.reading("image")))
    item = ImageDecoder().decode(source, options)
    found = encoder.encode_part(item[None])

    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(Image.open(tmp_path / "picture.png"), return_tensors="pt").pixel_values
    with torch.no_grad():
        theirs = _model(folder)(pixel_values=pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(found, theirs, atol=1e-4)
    assert encoder.n_features(item.shape) == 16


@pytest.mark.parametrize("is_normalised", [True, False])
def test_a_picture_that_is_not_rescaled_keeps_its_numbers(
    is_normalised: bool, tmp_path: Path
) -> None:
    folder = tiny.write_vit(tmp_path)
    mean, std = [100.0, 120.0, 140.0], [50.0, 60.0, 70.0]
    tiny.write_preprocessor(
        folder, do_rescale=False, do_normalize=is_normalised, image_mean=mean, image_std=std
    )
    items = tiny.pictures(2)

    found = get_encoder(f"hf:{folder}", kind="image").encode_part(items)

    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(list(items), return_tensors="pt", input_data_format="channels_first")
    with torch.no_grad():
        theirs = _model(folder)(pixel_values=pixels.pixel_values.float()).last_hidden_state[:, 0]
    np.testing.assert_allclose(found, theirs, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max", "class_token", "pooler"])
def test_a_picture_is_pooled_as_asked(pooling: str, tmp_path: Path) -> None:
    folder = tiny.write_vit(tmp_path)
    items = tiny.pictures(5)

    found = get_encoder(f"hf:{folder}", kind="image", pooling=pooling).encode_part(items)

    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    with torch.no_grad():
        out = _model(folder)(pixel_values=(torch.from_numpy(items) / 255 - mean) / std)
    rows = out.last_hidden_state
    expected = {
        "mean": rows[:, 1:].mean(1),
        "max": rows[:, 1:].amax(1),
        "class_token": rows[:, 0],
        "pooler": out.pooler_output,
    }[pooling]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_texts_are_the_mean_of_the_tokens_that_count(tmp_path: Path) -> None:
    folder = tiny.write_bert(tmp_path)
    encoder = get_encoder(f"hf:{folder}", kind="text")

    found = encoder.encode_part(tiny.texts("rain in paris", "sun"))

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, row in zip(("rain in paris", "sun"), found, strict=True):
        with torch.no_grad():  # alone, so without any padding
            alone = _model(folder)(**tokenizer(text, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(row, alone[0].mean(0), atol=1e-4)
    assert encoder.n_features((4096,)) == 16


def test_a_text_longer_than_the_model_is_cut_and_counted(tmp_path: Path) -> None:
    encoder = get_encoder(f"hf:{tiny.write_bert(tmp_path, 8)}", kind="text")
    items = tiny.texts("rain " * 20, "rain " * 6, "sun")

    assert encoder.too_long(items) == 1
    found = encoder.encode_part(items)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_sound_is_the_mean_over_its_own_frames(tmp_path: Path) -> None:
    folder = tiny.write_wav2vec2(tmp_path)
    encoder = get_encoder(f"hf:{folder}", kind="audio")
    items = tiny.waves(2, 8_000)
    items[1, 5_000:] = 0.0  # padding

    found = encoder.encode_part(items)

    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    for wave, row in zip((items[0], items[1, :5_000]), found, strict=True):
        inputs = extractor(wave, sampling_rate=8_000, return_tensors="pt")
        with torch.no_grad():
            alone = _model(folder)(**inputs).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, alone, atol=2e-3)
    assert encoder.reading("audio")["sample_rate_hz"] == 8_000
    assert encoder.n_features((8_000,)) == 16


def test_both_towers_give_vectors_of_one_space(tmp_path: Path) -> None:
    folder = tiny.write_clip(tmp_path)
    images = get_encoder(f"hf:{folder}", kind="image")
    texts = get_encoder(f"hf:{folder}", kind="text")
    items = tiny.pictures(2)

    model, tokenizer = _model(folder), transformers.AutoTokenizer.from_pretrained(folder)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    pixels = (torch.from_numpy(items) / 255 - mean) / std
    with torch.no_grad():
        seen = model.get_image_features(pixel_values=pixels).pooler_output
        read = model.get_text_features(**tokenizer("rain in paris", return_tensors="pt"))
    np.testing.assert_allclose(images.encode_part(items), seen, atol=1e-4)
    found = texts.encode_part(tiny.texts("rain in paris"))
    np.testing.assert_allclose(found, read.pooler_output, atol=1e-4)
    assert images.n_features((3, 32, 32)) == texts.n_features((4096,)) == 8
    assert images.reading("image")["crop_share"] == 0.8
    assert images.logit_scale == texts.logit_scale == float(model.logit_scale.detach().exp())
    assert get_encoder(f"hf:{tiny.write_vit(tmp_path / 'one')}", kind="image").logit_scale is None


def test_the_identity_covers_every_file_and_no_path(tmp_path: Path) -> None:
    one = tiny.write_vit(tmp_path / "one")
    (tmp_path / "one" / "README.md").write_text("a model")
    other = (tmp_path / "one").rename(tmp_path / "other")

    found = get_encoder(f"hf:{other}", kind="image").identity()

    assert sorted(found["weights"]) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert str(one) not in str(found) and str(other) not in str(found)
    before = found["weights"]
    tiny.write_preprocessor(other, resample=2)
    after = get_encoder(f"hf:{other}", kind="image", pooling="mean").identity()["weights"]
    assert before["model.safetensors"] == after["model.safetensors"]
    assert before["preprocessor_config.json"] != after["preprocessor_config.json"]


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("changed", ["preprocessor_config.json", "model.safetensors"])
def test_a_folder_that_changes_needs_a_new_process(
    changed: str, is_read: bool, tmp_path: Path
) -> None:
    folder = tiny.write_vit(tmp_path / "model")
    encoder, items = get_encoder(f"hf:{folder}", kind="image"), tiny.pictures(2)
    known = encoder.identity()
    found = encoder.encode_part(items) if is_read else None
    whole = (folder / changed).read_bytes()

    if changed == "model.safetensors":
        state = load_file(folder / changed)
        save_file({name: value + 1 for name, value in state.items()}, folder / changed)
    else:
        tiny.write_preprocessor(folder, image_mean=[0.5, 0.5, 0.5])

    with pytest.raises(DataCorruptError) as caught:
        encoder.identity()
    assert f"{changed!r} changed after this process had read it; restart" in str(caught.value)
    if found is None:
        with pytest.raises(DataCorruptError, match="restart the process"):
            encoder.encode_part(items)
    else:  # in memory are the old ones
        np.testing.assert_array_equal(encoder.encode_part(items), found)
    (folder / changed).write_bytes(whole)
    assert encoder.identity() == known


def test_weights_in_several_files_are_those_of_one(tmp_path: Path) -> None:
    folder, items = tiny.write_vit(tmp_path / "model"), tiny.pictures(2)
    whole = get_encoder(f"hf:{folder}", kind="image").encode_part(items)
    parts = tmp_path / "parts"
    _model(folder).save_pretrained(parts, max_shard_size="5KB")
    tiny.write_preprocessor(parts)
    assert len(list(parts.glob("*.safetensors"))) > 1

    found = get_encoder(f"hf:{parts}", kind="image").encode_part(items)

    np.testing.assert_array_equal(found, whole)


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickle(folder: Path) -> None:
    _empty(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _shard(folder: Path, named: Any) -> None:
    """Have an index name the file of the weights, next to a file that is not used."""
    (folder / "model.safetensors").rename(folder / "unused.safetensors")
    names = load_file(folder / "unused.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, named)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _pickled_shard(folder: Path) -> None:
    _shard(folder, "pytorch_model.bin")
    torch.save(load_file(folder / "unused.safetensors"), folder / "pytorch_model.bin")


def _outer_shard(folder: Path) -> None:
    _shard(folder, "../outer.safetensors")
    (folder.parent / "outer.safetensors").write_bytes((folder / "unused.safetensors").read_bytes())


def _odd_shard(folder: Path) -> None:
    _shard(folder, 3)


def _other_width(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 16', '"hidden_size": 24'))


def _deeper(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 4'))


def _endless(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(
        path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 900000000')
    )


def _immense(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(
        path.read_text().replace('"intermediate_size": 32', '"intermediate_size": 99000000000')
    )


def _coded(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("{", '{"trust_remote_code": true,', 1))


def _mapped(folder: Path) -> None:
    path = folder / "config.json"
    auto = '{"auto_map": {"AutoModel": "modeling_own.Own"},'
    path.write_text(path.read_text().replace("{", auto, 1))


def _kernel(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("{", '{"attn_implementation": "someone/a-kernel",', 1))


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _unknown(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"vit"', '"vitt"'))


def _no_preprocessor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def _odd_preprocessor(folder: Path) -> None:
    tiny.write_preprocessor(folder, size={"height": 32, "width": 48})


def _tiled(folder: Path) -> None:
    tiny.write_preprocessor(folder, do_image_splitting=True)


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (_empty, DataMissingError, "has no weights; expected *.safetensors"),
        (_pickle, ConfigError, "as a pickle alone (pytorch_model.bin), which can run code"),
        (_truncated, DataCorruptError, "are truncated or damaged"),
        (_pickled_shard, ConfigError, "names the file of weights 'pytorch_model.bin'"),
        (_outer_shard, ConfigError, "names the file of weights '../outer.safetensors'"),
        (_odd_shard, ConfigError, "names the file of weights 3"),
        (_other_width, DataCorruptError, "cannot be loaded"),
        (_deeper, DataCorruptError, "the weights are of another architecture"),
        (_endless, DataCorruptError, "num_hidden_layers=900000000, and the weights "),
        (_immense, DataMissingError, "GiB are free; choose a smaller model"),
        (_coded, ConfigError, "asks to run code of the model's authors"),
        (_mapped, ConfigError, "asks to run code of the model's authors"),
        (_kernel, ConfigError, "asks to run code of the model's authors"),
        (_no_json, DataCorruptError, "config.json is damaged"),
        (_unknown, DataCorruptError, "cannot be loaded"),
        (_no_preprocessor, ConfigError, "has no preprocessor_config.json, so it takes no image"),
        (_odd_preprocessor, ConfigError, "preprocessor_config.json has size="),
        (_tiled, ConfigError, "has do_image_splitting=true, which is not known here"),
    ],
)
def test_a_folder_that_is_no_sound_model_is_one_line(
    spoil: Any, error: type[Exception], told: str, tmp_path: Path
) -> None:
    folder = tiny.write_vit(tmp_path / "model")
    spoil(folder)
    encoder = get_encoder(f"hf:{folder}", kind="image")

    assert_refused_in_one_line(encoder, error, told)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"rescale_factor": "x"}, "rescale_factor='x'; expected a finite number"),
        ({"rescale_factor": 0.5}, "rescale_factor=0.5"),
        ({"resample": [3]}, "resample=[3]; expected a whole number"),
        ({"resample": 0}, "resample=0"),
        ({"image_mean": ["a"]}, "image_mean='a'; expected a finite number"),
        ({"image_mean": [0.5, 0.5]}, "mean=[0.5, 0.5]; expected three numbers"),
        ({"image_mean": 0.5}, "image_mean=0.5; expected a list"),
        ({"image_processor": 3}, "image_processor=3"),
        ({"image_std": [0.2, 0, 0.2]}, "std=[0.2, 0.0, 0.2]; expected numbers above 0"),
        ({"image_std": [-1]}, "std=[-1.0, -1.0, -1.0]; expected numbers above 0"),
        ({"size": 32.5}, "size=32.5"),
        ({"size": "32"}, "size='32'"),
        ({"size": True}, "size=True"),
        ({"size": [[32], [32]]}, "size=[[32], [32]]"),
        ({"size": {"height": [32]}}, "size={'height': [32]}"),
        ({"size": {"height": 0, "width": 32}}, "size={'height': 0, 'width': 32}"),
        ({"size": 1025}, "side=1025; expected 1 to 1024 pixels"),
        ({"do_center_crop": "yes"}, "do_center_crop='yes'; expected true or false"),
        ({"do_center_crop": True, "crop_size": [16, "a"]}, "size=[16, 'a']"),
        ({"crop_pct": "most"}, "crop_pct='most'; expected a finite number"),
        ({"crop_pct": 0}, "crop_share=0.0; expected above 0"),
        ({"crop_pct": 2}, "crop_share=2.0; expected above 0, at most 1"),
    ],
)
def test_a_damaged_preprocessor_is_one_line(
    values: dict[str, Any], told: str, tmp_path: Path
) -> None:
    tiny.write_vit(tmp_path)
    tiny.write_preprocessor(tmp_path, **values)

    with pytest.raises(ConfigError) as caught:
        get_encoder(f"hf:{tmp_path}", kind="image").identity()

    assert "preprocessor_config.json" in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "kind", "told"),
    [
        ("/none/there", "image", "there is no folder '/none/there'"),
        ("facebook/dinov2-small", "image", "a name of the hub needs a commit of 40 digits"),
        ("facebook/dinov2-small@main", "image", "expected facebook/dinov2-small@COMMIT"),
        (f"facebook/dinov2-small@{'a' * 40}", "image", "may not be downloaded here"),
        ("/none/there", "table", "takes audio and image and text; expected one that takes table"),
    ],
)
def test_a_name_without_a_model_is_one_line(place: str, kind: str, told: str) -> None:
    with pytest.raises(MetafleetError) as caught:
        get_encoder(f"hf:{place}", kind=kind).identity()

    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_modality_is_one_line(tmp_path: Path) -> None:
    texts, images = tiny.write_bert(tmp_path / "bert"), tiny.write_vit(tmp_path / "vit")

    with pytest.raises(ConfigError, match="so it takes no image; choose a model of image"):
        get_encoder(f"hf:{texts}", kind="image").identity()
    with pytest.raises(ConfigError, match="has no sampling_rate; expected a model of sounds"):
        get_encoder(f"hf:{images}", kind="audio").reading("audio")
    with pytest.raises(MetafleetError, match=r"takes pixel_values|cannot be loaded"):
        get_encoder(f"hf:{images}", kind="text").n_features((4096,))
    with pytest.raises(ConfigError, match=r"takes \[3, 32, 32\]; found \[3, 8, 8\]"):
        get_encoder(f"hf:{images}", kind="image").n_features((3, 8, 8))


def test_a_pooling_that_a_model_has_not_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pooling='flat'; encoder"):
        get_encoder(f"hf:{tmp_path}", kind="image", pooling="flat")
    with pytest.raises(ConfigError, match="space that its towers share, expected '' or 'pooler'"):
        folder = tiny.write_clip(tmp_path)
        get_encoder(f"hf:{folder}", kind="image", pooling="mean").n_features((3, 32, 32))
