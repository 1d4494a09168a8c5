"""Export an adapted model to ONNX. The graph includes the adaptation and runs without Metafleet.

The inputs are the modalities that the model uses, in the form of ``AdaptedModel.logits``, with any
number of examples, and "<modality>.present" for each optional modality. The outputs are "logits"
and "probabilities" [n, classes], or "values" [n, d] in regression. The metadata entry "metafleet"
is JSON with the classes in the order of the outputs, how to read each input from files, and the
provenance of the model.
"""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from metafleet.episode import is_kept_support, presence_key
from metafleet.errors import DataMissingError, MetafleetError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.files import check_new_file, write_new_file
from metafleet.inference.graph_inputs import (
    EncodedModality,
    GraphModality,
    dynamic_axes,
    graph_modalities,
)
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


def export_onnx(
    model: AdaptedModel, path: str | Path, *, force: bool = False, with_encoders: bool = True
) -> None:
    """Write the model as one ONNX file, after checking it with ONNX Runtime.

    Args:
        model: the adapted model. A model with batch norm "transductive" cannot be exported.
        path: the file, ending in .onnx.
        force: whether to replace an existing file.
        with_encoders: whether the graph contains the pretrained encoders. A graph without the
            encoders takes their features as inputs.

    Raises:
        ModelError: the model or one of its encoders cannot be exported, or the file cannot be
            written.
        DataMissingError: a library is not installed.
    """
    target = Path(path).expanduser()
    check_onnx_path(target, force=force)
    _refuse_unsound(model)
    runtime = _import_runtime()
    modalities = list(graph_modalities(model, with_encoders=with_encoders))
    classifier = _Classifier(model, modalities)
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


class _Classifier(nn.Module):
    """The model, with or without its pretrained encoders, as a module with positional inputs."""

    def __init__(self, model: AdaptedModel, modalities: Sequence[GraphModality]) -> None:
        super().__init__()
        self._model, self.modalities = model, tuple(modalities)
        self._optional = frozenset(model.needs.optional)
        self.encoders = nn.ModuleList(
            it.module for it in modalities if isinstance(it, EncodedModality)
        )
        self.output_names = ("logits", "probabilities") if model.classes else ("values",)
        self.eval()

    @property
    def input_names(self) -> list[str]:
        """The names of the positional inputs."""
        return [name for it in self.modalities for name in (*it.traced, *self._masks(it))]

    @property
    def axes(self) -> tuple[dict[int, Any], ...]:
        """The axes of any length, for each positional input."""
        every_n = {0: torch.export.Dim.DYNAMIC}
        return tuple(
            axes
            for it in self.modalities
            for axes in (*dynamic_axes(it), *(every_n for _ in self._masks(it)))
        )

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for a batch of examples."""
        given = dict(zip(self.input_names, values, strict=True))
        inputs: dict[str, Tensor] = {}
        for it in self.modalities:
            found = it.values(*(given[name] for name in it.traced))
            for mask in self._masks(it):
                found = _masked(it, found, given[mask])
                inputs[mask] = given[mask]
            inputs[it.modality] = found
        return self.outputs(inputs)

    def outputs(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs for inputs of the model."""
        outputs = self._model.logits(inputs)
        if not self._model.classes:
            return (outputs,)
        if self._model.learned.blueprint.problem.is_multi_label:
            return outputs, torch.sigmoid(outputs)
        return outputs, torch.softmax(outputs / self._model.temperature, dim=1)

    def draw(self, n: int, *, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw random examples. Return them as inputs of the graph and as inputs of the model.

        All examples have the first optional modality. Every second example lacks the other
        optional modalities.
        """
        generator = torch.Generator().manual_seed(seed)
        of_graph: dict[str, Tensor] = {}
        of_model: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        for it in self.modalities:
            drawn, values = it.draw(n, generator)
            for mask in self._masks(it):
                masks[mask] = (torch.arange(n) % 2 == 0).float() if masks else torch.ones(n)
                values = _masked(it, values, masks[mask])
            of_graph |= drawn
            of_model[it.modality] = values
        return of_graph | masks, of_model | masks

    def traced(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the positional inputs, given those of the graph."""
        return tuple(
            value
            for it in self.modalities
            for value in (*it.to_traced(inputs), *(inputs[name] for name in self._masks(it)))
        )

    def _masks(self, modality: GraphModality) -> tuple[str, ...]:
        is_optional = modality.modality in self._optional
        return (presence_key(modality.modality),) if is_optional else ()


def _masked(modality: GraphModality, values: Tensor, mask: Tensor) -> Tensor:
    """Return zeros for the features of absent items, as ``predict`` does."""
    return values * mask[:, None] if isinstance(modality, EncodedModality) else values


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
    inputs, _ = classifier.draw(_TRACED, seed=1)
    program = torch.onnx.export(
        classifier,
        classifier.traced(inputs),
        dynamo=True,
        input_names=classifier.input_names,
        output_names=list(classifier.output_names),
        dynamic_shapes={"values": classifier.axes},
        external_data=False,
        verbose=False,
    )
    assert program is not None  # None only without dynamo
    graph = program.model_proto
    before = [
        (it.traced[0], it.modality, it.part.before)
        for it in classifier.modalities
        if isinstance(it, EncodedModality) and it.part.before is not None
    ]
    if before:
        from metafleet.inference.onnx_joining import join_graphs  # noqa: PLC0415 - needs onnx

        graph = join_graphs(graph, before)
    entry = graph.metadata_props.add()
    entry.key = "metafleet"
    entry.value = json.dumps(_metadata(model, classifier), ensure_ascii=False)
    return bytes(graph.SerializeToString())


def _metadata(model: AdaptedModel, classifier: _Classifier) -> Mapping[str, Any]:
    specs = model.learned.blueprint.inputs
    return {
        "classes": list(model.classes),
        "inputs": {name: specs[name].to_json() for name in model.needs.known if name in specs},
        "takes": {name: it for each in classifier.modalities for name, it in each.takes.items()},
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
    """Compare ONNX Runtime's outputs with the model's.

    The batch has another size than the batch with which the graph was traced.

    Raises:
        ModelError: ONNX Runtime fails, or its outputs differ.
    """
    of_graph, of_model = classifier.draw(_CHECKED, seed=2)
    wanted = classifier.outputs(of_model)
    given = {name: value.numpy() for name, value in of_graph.items()}
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
