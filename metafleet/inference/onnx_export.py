"""Export an adapted model to ONNX. The graph includes the adaptation and needs no metafleet.

The inputs are the modalities that the model uses, in the form of ``AdaptedModel.logits``, with any
number of examples, and "<modality>.present" for each optional modality. The outputs are "logits"
and "probabilities" [n, classes], or "values" [n, d] in regression. The metadata entry "metafleet"
is JSON with the classes in the order of the outputs, how to read each input from files, and the
origin.
"""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from metafleet.episode import is_kept_support, presence_key
from metafleet.errors import DataMissingError, MetafleetError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.files import check_new_file, write_new_file
from metafleet.learners.episodic import EpisodicLearner
from metafleet.models.episode_norm import STATISTICS, unknown_layers
from metafleet.params import parted

TOLERANCE: Final = 1e-4
"""Maximum difference between graph and model, relative to the largest output."""
_COLOUR: Final = re.compile("\x1b\\[[0-9;]*m")
_TRACED, _CHECKED = 3, 5  # examples; they differ to show that the graph accepts any number


def check_onnx_path(path: Path, *, force: bool) -> None:
    """Check that a graph may be written to ``path``.

    Raises:
        ModelError: the path does not end in .onnx, it exists, or its folder does not exist.
    """
    if path.suffix.lower() != ".onnx":
        raise ModelError(f"--out {path} does not end in .onnx; give it this suffix")
    check_new_file(path, force=force)


def export_onnx(model: AdaptedModel, path: str | Path, *, force: bool = False) -> None:
    """Write the model as one ONNX file, after checking it with ONNX Runtime.

    Args:
        model: the adapted model. With batch norm "transductive" it cannot be exported.
        path: the file, ending in .onnx.
        force: whether to replace an existing file.

    Raises:
        ModelError: the model cannot be exported, or the file cannot be written.
        DataMissingError: a library is not installed.
    """
    target = Path(path).expanduser()
    check_onnx_path(target, force=force)
    _refuse_unsound(model)
    runtime = _import_runtime()
    classifier = _Classifier(model)
    try:
        with _quiet():
            content = _trace(classifier, model)
    except MetafleetError:
        raise
    except Exception as error:  # torch's exporter may raise anything for unsupported operators
        cause = error.__cause__ or error  # the first line of the wrapping error says nothing
        first = next(iter(_COLOUR.sub("", str(cause)).split("\n")))
        raise ModelError(
            f"the model cannot be exported: {type(cause).__name__} ({first:.120}); its encoders or "
            "learner use what ONNX lacks: keep it in the format of its own"
        ) from error
    _compare(runtime, content, classifier)
    write_new_file(target, content)


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of the graph.

    Attributes:
        name: name of the input, as in ``AdaptedModel.logits``.
        shape: shape of one example.
        is_text: whether the values are bytes, 0 to 255.
        is_mask: whether the input marks which examples have a modality.
    """

    name: str
    shape: tuple[int, ...]
    is_text: bool = False
    is_mask: bool = False

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n examples; a mask marks every other one absent."""
        if self.is_mask:
            return (torch.arange(n) % 2 == 0).float()
        values = torch.rand(n, *self.shape, generator=generator)
        return (255 * values).floor() if self.is_text else values


class _Classifier(nn.Module):
    """The model as a module with positional inputs."""

    def __init__(self, model: AdaptedModel) -> None:
        super().__init__()
        self._model = model
        self.graph_inputs = tuple(_inputs(model))
        self.output_names = ("logits", "probabilities") if model.classes else ("values",)
        self.eval()

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return the graph's outputs for a batch of examples."""
        named = {i.name: value for i, value in zip(self.graph_inputs, values, strict=True)}
        outputs = self._model.logits(named)
        if not self._model.classes:
            return (outputs,)
        if self._model.learned.blueprint.problem.is_multi_label:
            return outputs, torch.sigmoid(outputs)
        return outputs, torch.softmax(outputs / self._model.temperature, dim=1)

    def draw(self, n: int, *, seed: int) -> tuple[Tensor, ...]:
        """Draw inputs; every example has the first optional modality, so that none is empty."""
        generator = torch.Generator().manual_seed(seed)
        drawn = [i.draw(n, generator) for i in self.graph_inputs]
        masks = [place for place, i in enumerate(self.graph_inputs) if i.is_mask]
        if masks:
            drawn[masks[0]] = torch.ones(n)
        return tuple(drawn)


def _inputs(model: AdaptedModel) -> Iterator[_Input]:
    blueprint = model.learned.blueprint
    for name in model.needs.known:
        problem = blueprint.problem
        yield _Input(name, problem.modalities[name], is_text=name in problem.texts)
        if name in model.needs.optional:
            yield _Input(presence_key(name), (), is_mask=True)


def _refuse_unsound(model: AdaptedModel) -> None:
    learner = model.learned.learner
    name = model.learned.blueprint.learner["name"]
    if model.batch_norm == "transductive":
        raise ModelError(
            "batch_norm is 'transductive': what is predicted for an item depends on the items "
            "predicted with it, which a graph cannot keep; adapt with --batch-norm support, or "
            "train with 'support' or 'running'"
        )
    if not isinstance(learner, EpisodicLearner) or not learner.is_traceable:
        raise ModelError(
            f"learner {name!r} computes outside of torch; expected one such as 'protonet', 'r2d2' "
            "or 'maml'"
        )
    unseen = _normalised_by_neighbours(model)
    if unseen:
        names = " and ".join(map(repr, unseen))
        raise ModelError(
            f"no item of the support set had {names}, so with batch_norm='support' an item's is "
            "normalised by those predicted with it, which a graph cannot keep; adapt to items that "
            "have it, or train with batch_norm 'running'"
        )
    if is_kept_support(model.memory):
        raise ModelError(
            f"learner {name!r} reads its support set again for each query; expected one that "
            "adapts once, such as 'protonet', 'r2d2' or 'maml'"
        )


def _normalised_by_neighbours(model: AdaptedModel) -> list[str]:
    """Return the modalities whose layers got no statistics from the support set."""
    layers = unknown_layers(parted(model.memory, STATISTICS))
    return [m for m in model.needs.known if any(n.startswith(f"{m}.") for n in layers)]


def _trace(classifier: _Classifier, model: AdaptedModel) -> bytes:
    inputs = classifier.draw(_TRACED, seed=1)
    every_n = {0: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        classifier,
        inputs,
        dynamo=True,
        input_names=[i.name for i in classifier.graph_inputs],
        output_names=list(classifier.output_names),
        dynamic_shapes={"values": tuple(every_n for _ in inputs)},
        external_data=False,
        verbose=False,
    )
    assert program is not None  # None only without dynamo
    program.model.metadata_props["metafleet"] = json.dumps(_metadata(model), ensure_ascii=False)
    return bytes(program.model_proto.SerializeToString())


def _metadata(model: AdaptedModel) -> Mapping[str, Any]:
    specs = model.learned.blueprint.inputs
    return {
        "classes": list(model.classes),
        "inputs": {name: specs[name].to_json() for name in model.needs.known if name in specs},
        "required": list(model.needs.required),
        "optional": list(model.needs.optional),
        "origin": model.learned.origin.to_json(),
    }


def _import_runtime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - optional
        import onnxscript  # noqa: F401, PLC0415 - torch's exporter needs it
    except ImportError as error:
        raise DataMissingError(
            f"exporting to ONNX needs {error.name}; run `pip install 'metafleet[onnx]'`"
        ) from error
    return onnxruntime


def _compare(runtime: Any, content: bytes, classifier: _Classifier) -> None:
    """Compare ONNX Runtime's outputs with the model's on a batch of a different size.

    Raises:
        ModelError: ONNX Runtime fails, or its outputs differ.
    """
    inputs = classifier.draw(_CHECKED, seed=2)
    wanted = classifier(*inputs)
    names: Sequence[str] = [i.name for i in classifier.graph_inputs]
    given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        outputs = session.run(None, given)
    except Exception as error:  # its error classes exist only in its binary module
        first = next(iter(str(error).splitlines()), "")
        raise ModelError(
            f"ONNX Runtime cannot compute the graph: {type(error).__name__} ({first:.120}); it is "
            "not written: keep the model in the format of its own"
        ) from error
    for name, found, value in zip(classifier.output_names, outputs, wanted, strict=True):
        far = float((torch.from_numpy(found) - value).abs().max() / value.abs().max().clamp(min=1))
        if not far <= TOLERANCE:
            raise ModelError(
                f"the graph's {name} differ from the model's by {far:.1e} of the largest, more "
                f"than {TOLERANCE}; it is not written: keep the model in the format of its own"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which logs messages and warnings for its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
