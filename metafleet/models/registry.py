"""The available models, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.episode import CLASS_TEXT
from metafleet.errors import ConfigError
from metafleet.models.adapter import Adapter
from metafleet.models.audio_conv import AudioConv
from metafleet.models.base import Model, ModelClass, ModelFactory
from metafleet.models.conv1d import Conv1d
from metafleet.models.conv4 import Conv4
from metafleet.models.encoder import read_modality
from metafleet.models.fusion import Fusion, FusionOptions, given_options
from metafleet.models.gru import Gru
from metafleet.models.mlp import Mlp
from metafleet.models.named_module import find_model_class
from metafleet.models.ngram_bag import NgramBag
from metafleet.models.raw_features import RawFeatures
from metafleet.models.resnet12 import ResNet12
from metafleet.models.transformer import Transformer
from metafleet.models.video_conv import VideoConv
from metafleet.problem import Problem
from metafleet.registry import Registry

_BUILT_IN: tuple[type[ModelClass], ...] = (
    Adapter,
    AudioConv,
    Conv1d,
    Conv4,
    Fusion,
    Gru,
    Mlp,
    NgramBag,
    RawFeatures,
    ResNet12,
    Transformer,
    VideoConv,
)
MODELS: Registry[type[ModelClass]] = Registry("model", _BUILT_IN, adapt=find_model_class)


def model_factory(
    options: Mapping[str, Any], problem: Problem, *, allowed_packages: Sequence[str] = ()
) -> ModelFactory:
    """Check ``options`` and return a factory for the model, with or without a head.

    Raises:
        ConfigError: an option is wrong. The factory raises the same error if an option does not fit
            ``problem``.
    """
    found, parsed = MODELS.resolve(options, allowed_packages=allowed_packages)

    def make_encoder(table: Mapping[str, Any], seen: Problem, given: Mapping[str, Any], /) -> Model:
        chosen = MODELS.find(table.get("name"), allowed_packages=allowed_packages)
        own = given_options(chosen, given, table)
        return chosen.build(MODELS.parse(chosen, own), seen, None)

    def make_model(
        n_outputs: int | None, /, *, extra_inputs: Mapping[str, tuple[int, ...]] | None = None
    ) -> Model:
        seen = problem if extra_inputs is None else problem.with_inputs(extra_inputs)
        if issubclass(found, Fusion):
            model: Model = found.build_with(parsed, seen, n_outputs, make_encoder)
        else:
            _check_partial(parsed, seen)
            model = found.build(parsed, seen, n_outputs)
        _check_shown(_looked_at(found, parsed, seen), seen)
        return model

    return make_model


def looked_at(
    options: Mapping[str, Any], problem: Problem, *, allowed_packages: Sequence[str] = ()
) -> set[str]:
    """Return the modalities that a model reads. The result is empty if they are unknown.

    Raises:
        ConfigError: an option is wrong.
    """
    found, parsed = MODELS.resolve(options, allowed_packages=allowed_packages)
    return _looked_at(found, parsed, problem)


def require_seen_names(
    options: Mapping[str, Any], problem: Problem, *, allowed_packages: Sequence[str] = ()
) -> None:
    """Check that the model reads class names, if the episodes show class names.

    Raises:
        ConfigError: the model does not read them, or an option is wrong. In the first case, the
            message lists the modalities that the model reads.
    """
    seen = looked_at(options, problem, allowed_packages=allowed_packages)
    if seen and CLASS_TEXT not in seen:
        known = ", ".join(map(repr, sorted(seen)))
        raise ConfigError(
            f"class_text=true shows names of classes that the model ignores: the model looks at "
            f"{known} alone; set class_text=false, or learn with model.encoders.{CLASS_TEXT} of a "
            "fusion"
        )


def _check_partial(options: Any, problem: Problem) -> None:
    """Check that every modality the options name is in every episode."""
    for modality in sorted(problem.partial):
        if modality in _named(options, problem):
            raise ConfigError(
                f"modality {modality!r} is not in every episode; expected model 'fusion', which "
                "accepts missing modalities"
            )


def _check_shown(seen: set[str], problem: Problem) -> None:
    """Check that the model reads at least one modality of every kind of example.

    Raises:
        ConfigError: there is a kind of example of which the model reads no modality; the message
            names that kind. If it is unknown which modalities the model reads, this error is not
            raised.
    """
    for examples, modalities in problem.shown.items():
        if seen and seen.isdisjoint(modalities):
            has, looks_at = (", ".join(map(repr, sorted(names))) for names in (modalities, seen))
            raise ConfigError(
                f"{examples} have {has}, but the model looks at {looks_at} alone, so it could only "
                "guess; give it an encoder for what they have, or leave them out of the episodes"
            )


def _looked_at(found: type[ModelClass], options: Any, problem: Problem) -> set[str]:
    """Return the modalities a built-in model reads; empty for a user's model, as it is unknown."""
    if found is RawFeatures:
        return set(problem.modalities)
    if isinstance(options, FusionOptions):
        return set(options.encoders or problem.modalities)
    return _named(options, problem) if found in _BUILT_IN else set()


def _named(options: Any, problem: Problem) -> set[str]:
    """Return the modalities that options name; empty if there are no such options."""
    seen = {read_modality(options, problem)} if hasattr(options, "modality") else set()
    if hasattr(options, "modalities"):
        seen |= set(options.modalities or problem.modalities)
    return seen
