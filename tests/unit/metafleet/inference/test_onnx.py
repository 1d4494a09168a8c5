"""An adapted model exported to ONNX gives the model's outputs, or is refused in one line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from metafleet.contracts.settings import Settings
from metafleet.episode import ExampleSet, presence_key
from metafleet.errors import DataMissingError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.onnx_export import export_onnx
from metafleet.orchestrator.cli.main import main
from tests.runs import config, new_run
from tests.unit.metafleet.inference.models import CONV, learned, support_of

CLASSES = {"cat": 2, "dog": 2, "eel": 2}
FUSION: dict[str, Any] = {
    "name": "fusion",
    "dim": 8,
    "method": "gated",
    "batch_norm": "running",
    "encoders": {
        "image": {"name": "conv4", "channels": 4, "n_blocks": 1},
        "text": {"name": "ngram_bag"},
    },
}


def adapted(*kinds: str, **options: Any) -> AdaptedModel:
    model = learned(*(kinds or ("image",)), **options)
    return model.adapt_to(support_of(model), CLASSES)


def run(path: Path, inputs: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return dict(zip(names, found, strict=True))


def test_a_graph_of_fused_modalities_says_what_the_model_says_whatever_is_missing(
    tmp_path: Path,
) -> None:
    model = adapted("image", "text", model=FUSION, learner={"name": "r2d2"})
    shapes = model.learned.blueprint.problem.modalities
    export_onnx(model, tmp_path / "pets.onnx")

    for n in (1, 4):
        inputs = {name: torch.rand(n, *shape) for name, shape in shapes.items()}
        inputs["text"] = torch.randint(97, 123, (n, *shapes["text"])).float()
        inputs |= {presence_key(name): torch.ones(n) for name in shapes}
        inputs[presence_key("image")][1::2] = 0.0
        inputs[presence_key("text")][2::4] = 0.0
        found = run(tmp_path / "pets.onnx", inputs)
        logits = model.logits(inputs)
        np.testing.assert_allclose(found["logits"], logits.numpy(), atol=1e-4)
        shares = torch.softmax(logits, dim=1).numpy()
        np.testing.assert_allclose(found["probabilities"], shares, atol=1e-4)

    session = onnxruntime.InferenceSession(tmp_path / "pets.onnx")
    told = json.loads(session.get_modelmeta().custom_metadata_map["metafleet"])
    assert told["classes"] == list(CLASSES)
    assert told["inputs"]["image"]["options"]["side"] == 8
    assert [item.name for item in tmp_path.iterdir()] == ["pets.onnx"]  # one file, weights included


def test_the_command_exports_a_linear_head_and_replaces_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    model = adapted(learner={"name": "maml", "inner_lr": 0.01})
    model.save(tmp_path / "pets.model")
    learned("image").save(tmp_path / "pets.learned")
    export = ["export", "pets.model", "--onnx", "--out", "pets.onnx"]

    assert main(export) == 0
    told = capsys.readouterr()
    assert "pets.onnx: 3 classes of image" in told.out and told.err == ""
    images = torch.rand(5, 3, 8, 8)
    found = run(tmp_path / "pets.onnx", {"image": images})
    expected = model.logits({"image": images}).numpy()
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4)

    before = (tmp_path / "pets.onnx").read_bytes()
    refused = {
        "pets.onnx exists": export,
        "does not end in .onnx": [*export[:-1], "pets"],
        "is no folder": [*export[:-1], "nowhere/pets.onnx"],
        "has not been adapted": ["export", "pets.learned", *export[2:-1], "b.onnx"],
        "no model at nowhere.model, and no run 'nowhere.model': there are no runs yet": [
            "export",
            "nowhere.model",
            *export[2:-1],
            "b.onnx",
        ],
    }
    for message, arguments in refused.items():
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert (tmp_path / "pets.onnx").read_bytes() == before and not (tmp_path / "b.onnx").exists()


def test_a_run_is_told_from_a_name_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    new_run(Settings.load(), config())
    command = ("export", "--onnx", "--out", "a.onnx")

    assert main([*command, "latest"]) == 1
    of_a_run = capsys.readouterr().err
    assert main([*command, "nowhere.model"]) == 1
    of_nothing = capsys.readouterr().err

    assert of_a_run.startswith("error: latest has not been adapted")
    assert of_nothing.startswith(
        "error: there is no model at nowhere.model, and no run 'nowhere.model' among 1; expected"
    )
    assert of_a_run.count("\n") == of_nothing.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": {**CONV, "batch_norm": "transductive"}}, "adapt with --batch-norm support"),
        ({"learner": {"name": "snail"}}, "'snail' reads its support set again for each query"),
    ],
)
def test_a_model_that_cannot_be_a_graph_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        export_onnx(adapted(**options), tmp_path / "a.onnx")

    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_modality_that_no_support_item_had_is_named(tmp_path: Path) -> None:
    encoders = {**FUSION["encoders"], "audio": {"name": "audio_conv", "channels": 4}}
    chosen = {**FUSION, "encoders": encoders}
    for mode, is_graph in (("support", False), ("running", True)):
        model = learned("image", "audio", "text", model={**chosen, "batch_norm": mode})
        support = support_of(model)
        inputs = {name: support.inputs[name] for name in ("image", "text")}
        silent = model.adapt_to(ExampleSet(inputs, support.targets), CLASSES)
        if is_graph:
            export_onnx(silent, tmp_path / "a.onnx")
            continue
        with pytest.raises(ModelError, match="no item of the support set had 'audio'") as caught:
            export_onnx(silent, tmp_path / "a.onnx")
        assert "running" in str(caught.value) and not list(tmp_path.iterdir())


def test_errors_of_the_exporter_become_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("step 1 failed") from ValueError("\x1b[96mno cummax\x1b[0m here\nmore")

    monkeypatch.setattr("metafleet.inference.onnx_export._trace", fail)

    with pytest.raises(ModelError) as caught:
        export_onnx(adapted(), tmp_path / "a.onnx")

    assert str(caught.value).startswith(
        "the model cannot be exported: ValueError (no cummax here);"
    )
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_graph_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        def __init__(self, content: bytes, providers: list[str]) -> None:
            pass

        def run(self, _: None, given: dict[str, Any]) -> list[Any]:
            return [np.zeros((5, 3), np.float32)] * 2

    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    monkeypatch.setattr("metafleet.inference.onnx_export._trace", lambda *_: b"graph")

    with pytest.raises(ModelError, match=r"graph's logits differ .* it is not written"):
        export_onnx(adapted(), tmp_path / "a.onnx")

    assert not list(tmp_path.iterdir())


def test_a_graph_that_the_runtime_refuses_is_one_line_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metafleet.inference.onnx_export._trace", lambda *_: b"no graph")

    with pytest.raises(ModelError, match="ONNX Runtime cannot compute the graph") as caught:
        export_onnx(adapted(), tmp_path / "a.onnx")

    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)

    with pytest.raises(DataMissingError, match=r"pip install 'metafleet\[onnx\]'"):
        export_onnx(adapted(), tmp_path / "a.onnx")
