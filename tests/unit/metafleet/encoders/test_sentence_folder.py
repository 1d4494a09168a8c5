"""A folder of sentence-transformers gives the features that the library itself gives."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from metafleet.encoders.registry import get_encoder
from metafleet.errors import ConfigError, DataCorruptError, DataMissingError
from tests.unit.metafleet.encoders import tiny_models as tiny


def test_texts_have_the_embeddings_of_the_library(tmp_path: Path) -> None:
    folder = tiny.write_sentences(tmp_path)
    encoder = get_encoder(f"st:{folder}", kind="text")

    found = encoder.encode_part(tiny.texts("rain in paris", "sun"))

    theirs = SentenceTransformer(str(folder), local_files_only=True).encode(
        ["rain in paris", "sun"]
    )
    np.testing.assert_allclose(found, theirs, atol=1e-5)
    assert encoder.n_features((4096,)) == 16
    assert "model.safetensors" in encoder.identity()["weights"]
    assert encoder.too_long(tiny.texts("rain " * 20, "sun")) == 1


def test_static_vectors_take_texts_of_any_length(tmp_path: Path) -> None:
    folder = tiny.write_static(tmp_path)
    encoder = get_encoder(f"st:{folder}", kind="text")
    texts = ["rain in paris", "sun " * 500]

    found = encoder.encode_part(tiny.texts(*texts))

    theirs = SentenceTransformer(str(folder), local_files_only=True).encode(texts)
    np.testing.assert_allclose(found, theirs, atol=1e-5)
    assert encoder.too_long(tiny.texts(*texts)) == 0


def test_counting_long_texts_never_changes_how_others_encode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = get_encoder(f"st:{tiny.write_sentences(tmp_path)}", kind="text")
    encoder.encode_part(tiny.texts("sun"))
    shared = encoder._model.tokenizer
    tokenize, seen = type(shared).__call__, list[object]()

    def watched(self: object, *args: object, **options: object) -> object:
        found = tokenize(self, *args, **options)
        seen.append(shared.backend_tokenizer.truncation)  # what another thread would find now
        return found

    monkeypatch.setattr(type(shared), "__call__", watched)

    assert encoder.too_long(tiny.texts("rain " * 20, "sun")) == 1
    assert len(seen) >= 2 and None not in seen


def test_the_libraries_warn_of_nothing_that_we_tell_ourselves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("transformers", "sentence_transformers"):
        monkeypatch.setattr(logging.getLogger(library), "propagate", True)
    encoder = get_encoder(f"st:{tiny.write_sentences(tmp_path)}", kind="text")
    texts = tiny.texts("rain " * 20, "sun")
    caplog.clear()  # writing the folder warns

    assert encoder.too_long(texts) == 1
    part = encoder.graph_part(texts.shape[1:])

    assert part is not None and part.prepare(texts)[0].shape == (2, 12)
    assert not [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


def test_a_folder_that_is_no_sound_model_is_one_line(tmp_path: Path) -> None:
    folder = tiny.write_sentences(tmp_path)
    encoder = get_encoder(f"st:{folder}", kind="text")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()

    weights.write_bytes(whole[:-10])
    with pytest.raises(DataCorruptError, match="are truncated or damaged"):
        encoder.identity()
    weights.write_bytes(whole)
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ConfigError, match=r"2_Dense has its weights as a pickle alone"):
        encoder.n_features((4096,))
    weights.unlink()
    with pytest.raises(ConfigError, match="as a pickle alone"):
        encoder.identity()
    (folder / "2_Dense" / "pytorch_model.bin").unlink()
    with pytest.raises(DataMissingError, match="has no weights"):
        encoder.identity()


def test_a_folder_of_transformers_is_told_its_prefix(tmp_path: Path) -> None:
    folder = tiny.write_bert(tmp_path)

    with pytest.raises(ConfigError, match=r"has no modules\.json; expected a folder of sentence"):
        get_encoder(f"st:{folder}", kind="text").n_features((4096,))


@pytest.mark.parametrize("name", ["antigravity.Module", "modeling_own.Own", 3])
def test_a_class_that_is_not_of_the_library_is_refused_before_the_library_reads_it(
    name: Any, tmp_path: Path
) -> None:
    folder = tiny.write_sentences(tmp_path)
    path = folder / "modules.json"
    modules = json.loads(path.read_text())
    modules[0]["type"] = name
    path.write_text(json.dumps(modules))
    (folder / "modeling_own.py").write_text("raise SystemExit('ran code of the folder')")

    with pytest.raises(ConfigError, match=r"modules\.json names the class .* is never run"):
        get_encoder(f"st:{folder}", kind="text").n_features((4096,))


def test_a_text_is_counted_with_the_prompt_before_it(tmp_path: Path) -> None:
    folder = tiny.write_sentences(tmp_path)
    path = folder / "config_sentence_transformers.json"
    values = json.loads(path.read_text())
    prompt = {"prompts": {"query": "rain in paris "}, "default_prompt_name": "query"}
    path.write_text(json.dumps(values | prompt))

    encoder = get_encoder(f"st:{folder}", kind="text")

    assert encoder.too_long(tiny.texts("sun " * 8, "sun " * 7)) == 1  # of 12, two are the ends
