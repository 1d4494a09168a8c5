"""A user's ``torch.nn.Module`` as a ``Model``."""

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature

from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.models.base import Modulate
from metafleet.models.batch_norm import AVERAGED, MODES, Normalise, initial_buffers
from metafleet.models.module_function import Call, ModuleFunction
from metafleet.models.module_statistics import read_statistics
from metafleet.models.module_survey import Survey
from metafleet.params import Params

PREFIX = "module."
"""Prefix of the names of a module's parameters, so that a learner's parameters cannot collide with
them: parameter "fc.weight" is "module.fc.weight"."""


class ModuleModel:
    """Runs a module with given parameters. The module itself gives only their initial values.

    With a head, the model's outputs are those of the module. Without a head, the model is an
    embedding. If a submodule is named as the head, the embedding's outputs are the input of this
    submodule, flattened to [n, d]. If no head is named, the embedding's outputs are the module's
    outputs, flattened to [n, d].

    Args:
        function: the module.
        survey: the module's shapes.
        modalities: names of the data's inputs. If there is one input, it is the module's first
            argument. If there are several inputs, they are keyword arguments. Inputs that a learner
            adds are always keyword arguments.
        batch_norm: one of ``batch_norm.MODES``.
        has_head: whether the model has a head. If it has, the whole module runs.
    """

    def __init__(
        self,
        function: ModuleFunction,
        survey: Survey,
        *,
        modalities: Sequence[str],
        batch_norm: str,
        has_head: bool,
    ) -> None:
        check_batch_norm(function, survey, batch_norm)
        self._function = function
        self._survey = survey
        self._modalities = tuple(modalities)
        self._batch_norm = batch_norm
        self._has_head = has_head

    @property
    def batch_norm(self) -> str:
        """The batch norm mode."""
        return self._batch_norm

    @property
    def head(self) -> frozenset[str]:
        """Names of the head's parameters. The result is empty for an embedding.

        Raises:
            ConfigError: no submodule was named as the head.
        """
        if not self._has_head:
            return frozenset()
        self._require_head()
        return frozenset(PREFIX + name for name in self._function.head_names())

    @property
    def layers(self) -> Mapping[str, int]:
        """Hidden layers, with their numbers of channels.

        If no head is named, the last layer that runs counts as the output layer.
        """
        names = list(self._survey.layers)
        is_output_among = self._has_head and self._function.head is None
        hidden = names[:-1] if is_output_among else names
        return {name: self._survey.layers[name] for name in hidden}

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of the head's input for one example, or of an embedding."""
        return self._survey.feature_shape

    def init_params(self, seed: int) -> Params:
        """Return the current values of the module's learned parameters.

        The returned tensors share memory with the module. Parameters without ``requires_grad`` are
        constants, and are not returned. An embedding does not return the head's parameters. The
        seed is not used, because the module already has its values.
        """
        left = frozenset() if self._has_head else self._function.head_names()
        return {
            PREFIX + name: value.detach()
            for name, value in self._function.module.named_parameters()
            if value.requires_grad and name not in left
        }

    def init_buffers(self) -> Params:
        """Return the running statistics of the module's batch norm if the mode keeps any."""
        if self._batch_norm not in AVERAGED:
            return {}
        channels = {name: norm.num_features for name, norm in self._function.norms.items()}
        initial = initial_buffers(self._batch_norm, channels)
        return initial | read_statistics(self._function.norms)

    def forward(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs, modality -> [n, ...], to the module's outputs or embeddings [n, d]."""
        if self._has_head:
            return self._run(params, inputs, norm, modulate)
        return self.features(params, inputs, norm, modulate)

    def features(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None = None,
    ) -> Tensor:
        """Map inputs to the head's input; for an embedding, flattened to [n, d]."""
        if self._has_head:
            self._require_head()
        features = self._run(params, inputs, norm, modulate, stops_at_head=True)
        return features if self._has_head else features.flatten(1)

    def apply_head(self, params: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Map features to the module's outputs; for an embedding, return the features."""
        if not self._has_head:
            return features
        self._require_head()
        return self._function.apply_head(_stripped(params), features)

    def _run(
        self,
        params: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        norm: Normalise,
        modulate: Modulate | None,
        *,
        stops_at_head: bool = False,
    ) -> Tensor:
        return self._function(
            _stripped(params),
            arguments(inputs, self._modalities),
            norm,
            None if modulate is None else (modulate, tuple(self.layers)),
            stops_at_head=stops_at_head,
        )

    def _require_head(self) -> None:
        if self._function.head is None:
            children = [name for name, _ in self._function.module.named_children()]
            raise ConfigError(
                "this learner must know the module's output layer; give the name of a submodule "
                f"as head, such as head={children[-1] if children else 'fc'!r}"
            )


def arguments(inputs: Mapping[str, Tensor], modalities: Sequence[str]) -> Call:
    """Return the module's arguments: a single modality by position, all others by name."""
    if len(modalities) != 1:
        return (), inputs
    (only,) = modalities
    return (inputs[only],), {name: value for name, value in inputs.items() if name != only}


def check_inputs(function: ModuleFunction, extra: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a module's ``forward`` takes the inputs that a learner adds.

    Raises:
        ConfigError: ``forward`` lacks an argument; the message names the first missing one.
    """
    found = signature(function.module.forward).parameters.values()
    if any(p.kind is Parameter.VAR_KEYWORD for p in found):
        return
    for name, shape in extra.items():
        if name not in {p.name for p in found if p.kind is not Parameter.POSITIONAL_ONLY}:
            raise ConfigError(
                f"this learner gives the module a further input {name!r} [n, {shape[0]}], which "
                f"{type(function.module).__name__}.forward does not take; add it as an argument"
            )


def check_batch_norm(function: ModuleFunction, survey: Survey, mode: str) -> None:
    """Check that the module can run in a batch norm mode.

    Raises:
        ConfigError: the module cannot run in this mode; the message gives the reason.
    """
    if mode not in MODES:
        raise ConfigError(f"batch_norm={mode!r}; expected one of {', '.join(map(repr, MODES))}")
    if mode == "none" and function.norms:
        name = next(iter(function.norms))
        raise ConfigError(f"batch_norm='none' but the module has batch norm, {name!r} for one")
    if mode == "support" and survey.repeated_norms:
        raise ConfigError(
            f"batch_norm='support' but the module runs {survey.repeated_norms[0]!r} more than once "
            "in a forward pass; expected another mode, such as 'transductive'"
        )


def default_batch_norm(function: ModuleFunction) -> str:
    """Return the mode that matches the module's layers: "running", "transductive" or "none"."""
    if not function.norms:
        return "none"
    tracks = any(layer.running_mean is not None for layer in function.norms.values())
    return "running" if tracks else "transductive"


def _stripped(params: Mapping[str, Tensor]) -> Params:
    """Return only the module's parameters, by their names in the module."""
    return {n.removeprefix(PREFIX): v for n, v in params.items() if n.startswith(PREFIX)}
