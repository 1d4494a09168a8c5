"""The models there are, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.episode import CLASS_TEXT
from metafleet.errors import ConfigError
from metafleet.models.adapter import Adapter
from metafleet.models.audio_conv import AudioConv
from metafleet.models.base import Model, ModelClass, ModelFactory
from metafleet.models.conv1d import Conv1d
from metafleet.models.conv4 import Conv4
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
    """Check ``options`` and return what builds the model with or without a head.

    Raises:
        ConfigError: an option is wrong; the factory raises it where it does not fit ``problem``.
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
    """Return the modalities that a model looks at; none if it does not say, as a user's own.

    Raises:
        ConfigError: an option is wrong.
    """
    found, parsed = MODELS.resolve(options, allowed_packages=allowed_packages)
    return _looked_at(found, parsed, problem)


def require_seen_names(
    options: Mapping[str, Any], problem: Problem, *, allowed_packages: Sequence[str] = ()
) -> None:
    """Refuse a model that does not look at names of classes, where episodes show them.

    Raises:
        ConfigError: names what it looks at; or an option is wrong.
    """
    seen = looked_at(options, problem, allowed_packages=allowed_packages)
    if seen and CLASS_TEXT not in seen:
        known = ", ".join(map(repr, sorted(seen)))
        raise ConfigError(
            f"class_text=true shows names of classes that nobody looks at: the model looks at "
            f"{known} alone; set class_text=false, or learn with model.encoders.{CLASS_TEXT} of a "
            "fusion"
        )


def _check_partial(options: Any, problem: Problem) -> None:
    """Refuse a model of given modalities where some episodes come without one."""
    for modality in sorted(problem.partial):
        if modality in _named(options, problem):
            raise ConfigError(
                f"modality {modality!r} is not in every episode; expected model 'fusion', which "
                "takes what there is"
            )


def _check_shown(seen: set[str], problem: Problem) -> None:
    """Refuse a model that looks at nothing of what some examples have.

    Raises:
        ConfigError: names the examples; of a model of no option that names modalities, never.
    """
    for examples, modalities in problem.shown.items():
        if seen and seen.isdisjoint(modalities):
            has, looks_at = (", ".join(map(repr, sorted(names))) for names in (modalities, seen))
            raise ConfigError(
                f"{examples} have {has}, but the model looks at {looks_at} alone, so it could only "
                "guess; give it an encoder for what they have, or leave them out of the episodes"
            )


def _looked_at(found: type[ModelClass], options: Any, problem: Problem) -> set[str]:
    """Return what a built-in model looks at; options of a user's own may mean anything."""
    if found is RawFeatures:
        return set(problem.modalities)
    if isinstance(options, FusionOptions):
        return set(options.encoders or problem.modalities)
    return _named(options, problem) if found in _BUILT_IN else set()


def _named(options: Any, problem: Problem) -> set[str]:
    """Return the modalities that options name; none if there are no such options."""
    one = getattr(options, "modality", None)
    seen = set() if one is None else {str(one)}
    if hasattr(options, "modalities"):
        seen |= set(options.modalities or problem.modalities)
    return seen
