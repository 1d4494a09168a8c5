"""A graph that includes pretrained encoders gives what ``predict`` gives for the same items."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from metafleet.data.decoding.features import reading_options
from metafleet.data.decoding.registry import get_decoder
from metafleet.errors import ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.from_encoder import few_shot_model
from metafleet.inference.onnx_export import export_onnx
from metafleet.orchestrator.cli.main import main
from tests.folders import CLASSES, clip, picture, sound, write
from tests.unit.metafleet.encoders import tiny_models as tiny
from tests.viewed import write_colours
from tests.vision_libraries import use_vision_libraries

SUFFIXES = {"image": "png", "text": "txt", "audio": "wav", "video": "gif"}
TEXTS = ("rain in paris", "sun", "paris in rain in sun", "sun sun rain", "in", "rain rain sun")
Tokens = Callable[[list[str]], Mapping[str, Any]]


def files(kinds: tuple[str, ...], first: int) -> dict[str, bytes | str]:
    """Return two items of each of three classes; the last item lacks the second kind."""
    found: dict[str, bytes | str] = {}
    for number in range(6):
        stem = f"{CLASSES[number // 2]}/{number}"
        made: dict[str, bytes | str] = {
            "image": picture(first + number, side=40),
            "text": TEXTS[(first + number) % len(TEXTS)],
            "audio": sound(first + number, seconds=1.0),
            "video": clip(first + number),
        }
        chosen = kinds[:1] if number == 5 else kinds
        found |= {f"{stem}.{SUFFIXES[kind]}": made[kind] for kind in chosen}
    return found


def tokens_of_bert(folder: Path, n_most: int = 12) -> Tokens:
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return lambda texts: tokenizer(texts, padding=True, truncation=True, max_length=n_most)


def tokens_of_open_clip(folder: Path) -> Tokens:
    import open_clip  # noqa: PLC0415

    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return lambda texts: {"input_ids": tokenizer(texts)}


def of_hf(folder: Path) -> tuple[dict[str, str], Tokens]:
    text = tiny.write_bert(folder / "bert")
    vit = tiny.write_vit(folder / "vit")
    return {"image": f"hf:{vit}", "text": f"hf:{text}"}, tokens_of_bert(text)


def of_clip(folder: Path) -> tuple[dict[str, str], Tokens]:
    clip_ = tiny.write_clip(folder / "clip")
    return {"image": f"hf:{clip_}", "text": f"hf:{clip_}"}, tokens_of_bert(clip_)


def of_timm(folder: Path) -> tuple[dict[str, str], Tokens]:
    use_vision_libraries()
    tiny.write_timm(folder / "timm")
    sentences = tiny.write_sentences(folder)
    return {"image": f"timm:{folder / 'timm'}", "text": f"st:{sentences}"}, tokens_of_bert(
        sentences
    )


def of_open_clip(folder: Path) -> tuple[dict[str, str], Tokens]:
    use_vision_libraries()
    folder.mkdir()
    tiny.write_open_clip(folder / "open")
    name = f"open_clip:{folder / 'open'}"
    return {"image": name, "text": name}, tokens_of_open_clip(folder / "open")


def of_graphs(folder: Path) -> tuple[dict[str, str], Tokens]:
    names = {"image": write_colours(folder), "audio": "package:speech-embedding"}
    return names, lambda texts: {}


def of_clips(folder: Path) -> tuple[dict[str, str], Tokens]:
    return {"video": f"hf:{tiny.write_vit(folder / 'vit')}"}, lambda texts: {}


def inputs_by_hand(model: AdaptedModel, item: Path, tokens: Tokens) -> dict[str, Any]:
    """Return what a user of the graph passes for one item."""
    found: dict[str, Any] = {}
    for name in model.needs.known:
        path = item.with_suffix(f".{SUFFIXES[name]}")
        spec = model.learned.blueprint.inputs[name]
        if name in model.needs.optional:
            found[f"{name}.present"] = np.array([path.exists()], np.float32)
        if name == "text":
            texts = [path.read_text() if path.exists() else "sun"]
            found |= {f"text.{key}": np.asarray(it) for key, it in tokens(texts).items()}
            continue
        options = reading_options(spec.kind, spec.decoder_options())
        decoder = get_decoder(spec.kind)
        dtype, shape = decoder.example(options)
        read = (
            decoder.decode(path.read_bytes(), options) if path.exists() else np.zeros(shape, dtype)
        )
        found[name] = read[None].astype(np.float32) / (255.0 if dtype == np.uint8 else 1.0)
    return found


@pytest.mark.parametrize("make", [of_hf, of_clip, of_timm, of_open_clip, of_graphs, of_clips])
def test_a_graph_with_encoders_says_what_the_model_says_of_real_items(
    make: Callable[[Path], tuple[dict[str, str], Tokens]], tmp_path: Path
) -> None:
    encoders, tokens = make(tmp_path / "encoders")
    kinds = tuple(encoders)
    known = write(tmp_path / "known", files(kinds, 0))
    asked = write(tmp_path / "asked", files(kinds, 20))
    model = few_shot_model(encoders, head="ridge").adapt(known)
    path = tmp_path / "model.onnx"

    export_onnx(model, path)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = {it.name for it in session.get_inputs()}
    told = json.loads(session.get_modelmeta().custom_metadata_map["metafleet"])
    assert set(told["takes"]) == {name for name in names if not name.endswith(".present")}
    for row in model.predict(asked).rows:
        item = next(asked.rglob(f"{Path(row.item).stem}.*"))
        given = inputs_by_hand(model, item, tokens)
        (found,) = session.run(["probabilities"], {n: it for n, it in given.items() if n in names})
        np.testing.assert_allclose(found[0], list(row.probabilities.values()), atol=1e-4)


def test_the_command_leaves_the_encoder_out_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph").mkdir()
    encoder = write_colours(tmp_path / "graph")
    known = write(tmp_path / "known", files(("image",), 0))
    few_shot_model({"image": encoder}).adapt(known).save(tmp_path / "pets.model")
    export = ["export", "pets.model", "--onnx", "--out"]

    assert main([*export, "with.onnx"]) == 0
    assert "the graph includes onnx:" in capsys.readouterr().err
    assert main([*export, "without.onnx", "--without-encoder"]) == 0
    assert "the graph takes the features of onnx:" in capsys.readouterr().err

    shapes = [
        onnxruntime.InferenceSession(path).get_inputs()[0].shape[1:]
        for path in ("with.onnx", "without.onnx")
    ]
    assert shapes == [[3, 32, 32], [12]]
    assert main(["export", "pets.model", "--out", "copy.model", "--without-encoder"]) == 1
    assert "--without-encoder without --onnx" in capsys.readouterr().err


def test_an_encoder_that_cannot_be_in_a_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    known = write(tmp_path / "known", files(("text",), 0))
    model = few_shot_model({"text": "package:wordllama"}).adapt(known)

    with pytest.raises(ModelError, match="'package:wordllama' cannot be a part of a") as caught:
        export_onnx(model, tmp_path / "a.onnx")

    assert "--without-encoder" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "a.onnx").exists()
    export_onnx(model, tmp_path / "a.onnx", with_encoders=False)


def test_a_graph_for_batches_of_one_size_is_refused(tmp_path: Path) -> None:
    encoder = write_colours(tmp_path, batch=4)
    known = write(tmp_path / "known", files(("image",), 0))

    with pytest.raises(ModelError, match="takes batches of 4 items") as caught:
        export_onnx(few_shot_model({"image": encoder}).adapt(known), tmp_path / "a.onnx")

    assert "\n" not in str(caught.value)
