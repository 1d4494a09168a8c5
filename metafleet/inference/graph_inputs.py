"""The inputs of a graph: those of the model, or of the pretrained encoders before it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from metafleet.data.decoding.features import encoder_of, reading_options
from metafleet.data.decoding.registry import get_decoder
from metafleet.encoders.base import Array
from metafleet.encoders.graph_part import ANY, GraphPart
from metafleet.errors import ConfigError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.input_spec import InputSpec

_WORDS: Final = ("a", "cold", "river", "of", "seven", "bright", "stones", "in", "one", "window")


@dataclass(frozen=True)
class PlainModality:
    """A modality that the graph takes in the same form as the model.

    Attributes:
        modality: its name.
        shape: shape of one example.
        is_text: whether the values are bytes, 0 to 255.
        spec: how the modality is read from files; None if its values are computed.
    """

    modality: str
    shape: tuple[int, ...]
    is_text: bool
    spec: InputSpec | None

    @property
    def takes(self) -> Mapping[str, Mapping[str, Any]]:
        """Name of the input -> description of its values, as JSON values."""
        found: dict[str, Any] = {"shape": ["n", *self.shape], "dtype": "float32"}
        if self.is_text:
            found["values"] = "bytes of UTF-8 as numbers, then zeros"
        elif self.spec is not None and self.spec.is_encoded:
            found["values"] = f"features of encoder {self.spec.decoder_options().encoder}"
        elif self.spec is not None and self.spec.is_picture:
            found["values"] = "0 for white to 1 for black" if self.spec.is_inverted else "0 to 1"
        return {self.modality: found}

    @property
    def traced(self) -> tuple[str, ...]:
        """Names of the tensors that ``values`` takes."""
        return (self.modality,)

    def draw(self, n: int, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Draw numbers in [0, 1], or bytes."""
        values = torch.rand(n, *self.shape, generator=generator)
        values = (255 * values).floor() if self.is_text else values
        return {self.modality: values}, values

    def to_traced(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the input."""
        return (inputs[self.modality],)

    def values(self, *traced: Tensor) -> Tensor:
        """Return the input."""
        return traced[0]


class EncodedModality:
    """A modality whose pretrained encoder is in the graph.

    Args:
        modality: its name.
        spec: how the modality is read from files.

    Attributes:
        takes: name of an input of the graph -> description of the input's values, in JSON.

    Raises:
        ModelError: the encoder cannot be a part of a graph.
    """

    def __init__(self, modality: str, spec: InputSpec) -> None:
        options = spec.decoder_options()
        encoder = encoder_of(spec.kind, options)
        assert encoder is not None
        spec.require_encoder(modality, advice="export without the encoder")
        reading = reading_options(spec.kind, options)
        self._item_dtype, self._item_shape = get_decoder(spec.kind).example(reading)
        self.modality, self._encoder, self._storage = modality, encoder, options.storage
        try:
            self._part: GraphPart = encoder.graph_part(self._item_shape)
        except ConfigError as error:
            raise ModelError(f"{error}; --without-encoder exports the rest") from error
        self.takes = {modality + each.suffix: each.takes for each in self._part.inputs}

    @property
    def part(self) -> GraphPart:
        """The encoder's part of the graph."""
        return self._part

    @property
    def traced(self) -> tuple[str, ...]:
        """Names of the tensors that ``values`` takes: inputs, or the rows of a finished graph."""
        return tuple(self.takes) if self._part.before is None else (f"{self.modality}.rows",)

    @property
    def module(self) -> nn.Module:
        """The encoder's module, whose parameters the graph contains."""
        return self._part.module

    def draw(self, n: int, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Draw decoded items; the model's input is what ``predict`` computes for them."""
        seed = int(torch.randint(1 << 30, (1,), generator=generator))
        items = _random_items(n, self._item_dtype, self._item_shape, np.random.default_rng(seed))
        features = self._encoder.encode_all(items).astype(self._storage)
        inputs = dict(zip(self.takes, self._part.prepare(items), strict=True))
        return inputs, torch.from_numpy(features.astype(np.float32))

    def to_traced(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the inputs, or the rows that the finished graph computes from them."""
        before, found = self._part.before, tuple(inputs[name] for name in self.takes)
        if before is None:
            return found
        return (torch.from_numpy(before.run(found[0].numpy())),)

    def values(self, *traced: Tensor) -> Tensor:
        """Return the features, rounded as they are stored."""
        features: Tensor = self._part.module(*traced)
        return features.half().float() if self._storage == "float16" else features


GraphModality = PlainModality | EncodedModality


def graph_modalities(model: AdaptedModel, *, with_encoders: bool) -> Iterator[GraphModality]:
    """Yield the modalities that the model uses.

    Args:
        model: the adapted model.
        with_encoders: whether the graph contains the pretrained encoders.

    Raises:
        ModelError: an encoder cannot be a part of a graph, or the encoder on this machine is not
            that of the model.
        DataMissingError, DataCorruptError: the weights of an encoder are missing or damaged.
    """
    blueprint = model.learned.blueprint
    problem = blueprint.problem
    for name in model.needs.known:
        spec = blueprint.inputs.get(name)
        if with_encoders and spec is not None and spec.is_encoded:
            yield EncodedModality(name, spec)
        else:
            yield PlainModality(name, problem.modalities[name], name in problem.texts, spec)


def _random_items(
    n: int, dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator
) -> Array:
    """Return decoded items: pixels, waves, or texts of a few words."""
    if dtype == np.uint8 and len(shape) == 1:
        rows = np.zeros((n, *shape), np.uint8)
        for row in rows:
            text = " ".join(rng.choice(_WORDS, rng.integers(1, 8))).encode()[: shape[0]]
            row[: len(text)] = np.frombuffer(text, np.uint8)
        return rows
    if dtype == np.uint8:
        return rng.integers(0, 256, (n, *shape), np.uint8)
    return rng.uniform(-0.5, 0.5, (n, *shape)).astype(dtype)


def dynamic_axes(modality: GraphModality) -> tuple[dict[int, Any], ...]:
    """Return, for each traced tensor, the axes of any length."""
    every = torch.export.Dim.DYNAMIC
    if not isinstance(modality, EncodedModality) or modality.part.before is not None:
        return ({0: every},) * len(modality.traced)
    return tuple(
        {0: every, **{1 + i: every for i, size in enumerate(each.shape) if size == ANY}}
        for each in modality.part.inputs
    )
