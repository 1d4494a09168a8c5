"""One embedding of several modalities: an encoder for each, and a fusion of those present."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Protocol, Self

import torch.nn.functional as F
from torch import Tensor

from metafleet.data.decoding.registry import DECODERS, get_decoder, has_decoder
from metafleet.episode import CLASS_TEXT, presence_key
from metafleet.errors import ConfigError
from metafleet.models.base import Model, Modulate
from metafleet.models.batch_norm import BatchNormMode, Normalise, beneath
from metafleet.models.encoder import HEAD_INDEX, require_counts
from metafleet.models.fusion_methods import (
    Attend,
    Concatenate,
    Fuse,
    Gate,
    Join,
    Mean,
    MultiplyExperts,
)
from metafleet.models.headed import HeadedModel
from metafleet.models.init import fan_in_uniform
from metafleet.models.presence import presence, stand_in
from metafleet.options import require
from metafleet.params import Params
from metafleet.problem import FEATURES, Problem
from metafleet.seeds import CounterRng

Method = Literal["concat", "gated", "attention", "product_of_experts", "join", "mean"]
_METHODS: Mapping[str, type[Any]] = {
    "concat": Concatenate,
    "gated": Gate,
    "attention": Attend,
    "product_of_experts": MultiplyExperts,
}
_UNMAPPED: Mapping[str, type[Any]] = {"join": Join, "mean": Mean}
"""Methods that fuse the encoders' features themselves, such as those of pretrained encoders."""
_TEXT = "text"
_FUSE_INDEX = 500


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """Options of ``Fusion``.

    Attributes:
        encoders: modality -> table with the name and options of the modality's encoder. Any model
            can be an encoder. If ``encoders`` is empty, each modality of the data gets the default
            encoder of its kind. If ``encoders`` is not empty, modalities without an encoder are
            ignored.
        method: "concat", "gated", "attention", "product_of_experts", "join" or "mean"; see
            docs/reference/modalities.md#fusion.
        dim: length of the vector to which each encoder's features are mapped, >= 1. The methods
            "join" and "mean" do not map the features, and use neither ``dim`` nor ``scale``.
        scale: initial value of the learned factor for the fused vector, > 0. Squared distances are
            multiplied by its square.
        batch_norm: batch norm mode of all encoders, as in ``conv4``.
    """

    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    method: Method = "concat"
    dim: int = 64
    scale: float = 3.0
    batch_norm: BatchNormMode = "transductive"

    def __post_init__(self) -> None:
        require_counts(self, "dim")
        require(self.scale > 0, "scale", self.scale, "more than 0")
        divides = self.method != "attention" or self.dim % Attend.n_heads == 0
        require(divides, "dim", self.dim, f"a multiple of {Attend.n_heads} with method='attention'")


class MakeEncoder(Protocol):
    """Builds a model without a head from its name and options."""

    def __call__(
        self, options: Mapping[str, Any], problem: Problem, given: Mapping[str, Any], /
    ) -> Model:
        """Build the model. Options in ``given`` that the model does not have are ignored.

        Raises:
            ConfigError: an option is wrong, or is set in both ``options`` and ``given``.
        """
        ...


class Fusion(HeadedModel):
    """Encode each modality as a vector, and fuse the vectors of the modalities that an example has.

    A modality that an example lacks affects neither the fusion nor any batch statistics. Inputs
    need not have every modality, because episodes from a mixture of data sets differ in their
    modalities. A linear head on the fused vector is optional.
    """

    name: ClassVar[str] = "fusion"
    Options: ClassVar[type] = FusionOptions

    def __init__(
        self, options: FusionOptions, *, encoders: Mapping[str, Model], n_outputs: int | None
    ) -> None:
        super().__init__(n_outputs)
        self._options = options
        self._encoders = dict(encoders)
        self._is_mapped = options.method in _METHODS
        self._sizes = {
            modality: options.dim if self._is_mapped else math.prod(encoder.feature_shape)
            for modality, encoder in encoders.items()
        }
        self._fuse: Fuse
        if self._is_mapped:
            made = _METHODS[options.method]
            self._fuse = made(tuple(encoders), dim=options.dim, scale=options.scale)
        else:
            self._fuse = _UNMAPPED[options.method](self._sizes)

    @classmethod
    def build(cls, options: FusionOptions, problem: Problem, n_outputs: int | None) -> Self:
        """Raise ``ConfigError``: use ``build_with``, which gets the registry of encoders."""
        raise ConfigError("model 'fusion' has parts; build it by `model_factory`")

    @classmethod
    def build_with(
        cls,
        options: FusionOptions,
        problem: Problem,
        n_outputs: int | None,
        make_encoder: MakeEncoder,
    ) -> Self:
        """Build an encoder for each modality, and the fusion.

        Raises:
            ConfigError: a modality is not in the data, or an encoder does not fit its modality.
        """
        tables = options.encoders or _default_encoders(problem)
        encoders = {}
        for modality, table in sorted(tables.items()):  # the order in a file must not matter
            shape = problem.modalities.get(modality)
            if shape is None:
                known = ", ".join(map(repr, sorted(problem.modalities)))
                raise ConfigError(f"encoders.{modality} has no data; the data have {known}")
            given = {
                "modality": modality,
                "modalities": (modality,),
                "batch_norm": options.batch_norm,
            }
            seen = replace(problem, modalities={modality: shape}, partial=frozenset())
            try:
                encoders[modality] = make_encoder(table, seen, given)
            except ConfigError as error:
                raise ConfigError(f"encoders.{modality}: {error}") from error
        return cls(options, encoders=encoders, n_outputs=n_outputs)

    @property
    def batch_norm(self) -> str:
        """The batch norm mode; "none" if no encoder has batch norm."""
        has_norm = any(encoder.batch_norm != "none" for encoder in self._encoders.values())
        return self._options.batch_norm if has_norm else "none"

    @property
    def layers(self) -> Mapping[str, int]:
        """The encoders' layers, each named "<modality>.<layer>"."""
        return {
            f"{modality}.{layer}": channels
            for modality, encoder in self._encoders.items()
            for layer, channels in encoder.layers.items()
        }

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Length of the fused vector."""
        return (self._fuse.n_features,)

    def init_params(self, seed: int) -> Params:
        """Draw encoders, maps and fusion; each tensor has a separate random stream."""
        params: Params = {}
        for i, (modality, encoder) in enumerate(self._encoders.items()):
            own = CounterRng(seed, "encoder", index=i).torch_seed()
            params |= {f"{modality}.{n}": value for n, value in encoder.init_params(own).items()}
            if not self._is_mapped:
                continue
            n_in = math.prod(encoder.feature_shape)
            shape = (self._options.dim, n_in)
            params[f"map.{modality}.weight"] = fan_in_uniform(seed, 2 * i, shape, fan_in=n_in)
            bias = fan_in_uniform(seed, 2 * i + 1, shape[:1], fan_in=n_in)
            params[f"map.{modality}.bias"] = bias
        params |= self._fuse.init(seed, _FUSE_INDEX)
        return params | self.init_head(seed, HEAD_INDEX)

    def init_buffers(self) -> Params:
        """Return the encoders' running statistics."""
        return {
            f"{modality}.{name}": value
            for modality, encoder in self._encoders.items()
            for name, value in encoder.init_buffers().items()
        }

    def features(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs to the fused vectors, [n, d]."""
        masks = {modality: presence(inputs, modality) for modality in self._encoders}
        vectors = {}
        for modality, encoder in self._encoders.items():
            if modality not in inputs:
                n = masks[modality].shape[0]
                vectors[modality] = masks[modality].new_zeros(n, self._sizes[modality])
                continue
            seen = {modality: stand_in(inputs[modality], masks[modality])}
            own = _of(params, modality)
            is_masked = presence_key(modality) in inputs
            anybody = masks[modality].any() if is_masked else None
            features = encoder.features(
                own, seen, beneath(norm, modality, anybody), _modulate_beneath(modulate, modality)
            )
            vectors[modality] = self._map(params, modality, features)
        return self._fuse(params, vectors, masks)

    def _map(self, params: Mapping[str, Tensor], modality: str, features: Tensor) -> Tensor:
        """Map an encoder's features to the vector that is fused."""
        if not self._is_mapped:
            return features.flatten(1)
        return F.linear(features, params[f"map.{modality}.weight"], params[f"map.{modality}.bias"])


def given_options(
    cls: type[Any], given: Mapping[str, Any], table: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options in ``table``, and those options in ``given`` that ``cls`` has.

    Raises:
        ConfigError: ``table`` also sets one of the options in ``given``.
    """
    known = {item.name for item in fields(cls.Options)}
    for option in given:
        if option in table:
            raise ConfigError(
                f"{option}={table[option]!r} is set for all encoders by the model; remove it here"
            )
    return {**table, **{name: value for name, value in given.items() if name in known}}


def _default_encoders(problem: Problem) -> dict[str, dict[str, Any]]:
    kinds = {name: problem.kinds.get(name, name) for name in problem.modalities}
    kinds = {name: _TEXT if kind == CLASS_TEXT else kind for name, kind in kinds.items()}
    unknown = [n for n, kind in kinds.items() if kind != FEATURES and not has_decoder(kind)]
    if unknown:
        known = ", ".join(map(repr, (*DECODERS, CLASS_TEXT)))
        raise ConfigError(
            f"no encoder for modality {unknown[0]!r}; expected a table encoders.{unknown[0]}, "
            f"or one of the modalities {known}, which have a default"
        )
    return {
        name: {"name": _default_encoder(kind, is_bytes=name in problem.texts)}
        for name, kind in sorted(kinds.items())
    }


def _default_encoder(kind: str, *, is_bytes: bool) -> str:
    if kind == FEATURES:
        return "adapter"
    decoder = get_decoder(kind)
    return "adapter" if decoder.is_text and not is_bytes else decoder.default_encoder


def _of(params: Mapping[str, Tensor], modality: str) -> Params:
    prefix = f"{modality}."
    return {n.removeprefix(prefix): v for n, v in params.items() if n.startswith(prefix)}


def _modulate_beneath(modulate: Modulate | None, modality: str) -> Modulate | None:
    if modulate is None:
        return None
    given: Callable[[str, Tensor], Tensor] = modulate
    return lambda layer, x: given(f"{modality}.{layer}", x)
