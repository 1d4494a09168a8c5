"""The specification of a model: learner, network, their shapes, and how to read files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from metafleet.episode import CLASS_TEXT, EpisodeShape
from metafleet.errors import ConfigError, ModelError
from metafleet.inference.class_text_spec import ClassTextSpec
from metafleet.inference.input_spec import InputSpec
from metafleet.learners.base import Learner
from metafleet.learners.registry import build_learner
from metafleet.models.registry import model_factory
from metafleet.options import parse_options
from metafleet.problem import Problem

Options = Mapping[str, Any]
_MOST_NUMBERS: Final = 1 << 28
"""Maximum numbers in one example, a GiB; a larger count means damage and would overflow."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The specification of a model, as JSON values and shapes, without tensors.

    Attributes:
        learner, model: names and options of learner and model.
        problem: the problem on which they were trained.
        inputs: modality -> how to read the modality from files; empty if the data were computed.
        class_text: how names of classes become features; None if models get the bytes of names, or
            no names.
    """

    learner: Options
    model: Options
    problem: Problem
    inputs: Mapping[str, InputSpec]
    class_text: ClassTextSpec | None = None

    def build(self, allowed_packages: Sequence[str] = ()) -> Learner:
        """Build the learner.

        Raises:
            ConfigError: a name or option is wrong, or its package is not allowed.
        """
        make_model = model_factory(self.model, self.problem, allowed_packages=allowed_packages)
        return build_learner(
            self.learner, self.problem, make_model, allowed_packages=allowed_packages
        )

    def with_encoders(self, encoders: Mapping[str, str]) -> "Blueprint":
        """Return the blueprint with new names of encoders, given as modality -> name.

        Raises:
            ConfigError: the model does not have such a modality, or the modality has no encoder.
            ModelError: the model does not identify its encoder.
        """
        for modality in encoders:
            if modality not in self.inputs:
                known = ", ".join(self.inputs) or "none"
                raise ConfigError(
                    f"the model has no input {modality!r:.40}; its inputs are: {known}"
                )
        moved = {name: self.inputs[name].with_encoder(name, it) for name, it in encoders.items()}
        names = self.class_text
        for modality, name in encoders.items():  # the tower of names is in the same folder
            if names is not None and names.is_of(self.inputs[modality]):
                names = names.with_encoder(name)
        return replace(self, inputs={**self.inputs, **moved}, class_text=names)

    def with_light_and_dark_swapped(self) -> "Blueprint":
        """Return the blueprint for pictures whose light and dark are swapped against training."""
        swapped = {name: s.with_light_and_dark_swapped() for name, s in self.inputs.items()}
        return replace(self, inputs=swapped)

    def with_light_and_dark_as_trained(self) -> "Blueprint":
        """Undo ``with_light_and_dark_swapped``."""
        as_trained = {n: s.with_light_and_dark_as_trained() for n, s in self.inputs.items()}
        return replace(self, inputs=as_trained)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values for ``from_json``."""
        problem = self.problem
        separator = problem.label_separator
        return {
            "learner": dict(self.learner),
            "model": dict(self.model),
            "modalities": {name: list(shape) for name, shape in problem.modalities.items()},
            "target_dim": problem.target_dim,
            "partial": sorted(problem.partial),
            "texts": sorted(problem.texts),
            "kinds": dict(problem.kinds),
            "episodes": {split: asdict(shape) for split, shape in problem.episodes.items()},
            "inputs": {name: spec.to_json() for name, spec in self.inputs.items()},
            **({"label_separator": separator} if separator else {}),
            **({"class_text": self.class_text.to_json()} if self.class_text else {}),
        }

    @classmethod
    def from_json(cls, values: Any, *, allowed_packages: Sequence[str] = ()) -> "Blueprint":
        """Parse the values that ``to_json`` returned.

        Raises:
            ModelError: the values are damaged.
            ConfigError: an option of a decoder is wrong.
        """
        try:
            inputs = dict(values["inputs"])
            specs = {
                name: InputSpec.from_json(name, spec, allowed_packages=allowed_packages)
                for name, spec in inputs.items()
            }
            modalities = {name: _shape(shape) for name, shape in values["modalities"].items()}
            problem = Problem(
                modalities,
                int(values["target_dim"]),
                {
                    split: parse_options(EpisodeShape, shape, where=f"episodes of {split!r}")
                    for split, shape in values["episodes"].items()
                },
                partial=frozenset(str(name) for name in values["partial"]),
                texts=_texts(values, modalities, specs),
                kinds=_kinds(values, modalities, specs),
                label_separator=str(values.get("label_separator", "")),
            )
            learner, model = dict(values["learner"]), dict(values["model"])
            class_text = (
                ClassTextSpec.from_json(values["class_text"], allowed_packages=allowed_packages)
                if "class_text" in values
                else None
            )
            names = {} if class_text is None else {CLASS_TEXT: class_text.tower}
            _check_shapes(modalities, {**specs, **names})
        except (ConfigError, ModelError):
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"the description of the model is damaged ({error!r:.80})") from error
        return cls(learner, model, problem, specs, class_text)


def _texts(
    values: Options, modalities: Iterable[str], specs: Mapping[str, InputSpec]
) -> frozenset[str]:
    """Return the modalities that are bytes of a text.

    Older files do not list these modalities. For an older file, the result is the modalities that
    are read as text, and the modality of class names.
    """
    if "texts" in values:
        return frozenset(_known(values["texts"], list, modalities))
    read = {name for name, spec in specs.items() if spec.is_text}
    return frozenset(name for name in modalities if name in read or name == CLASS_TEXT)


def _kinds(
    values: Options, modalities: Iterable[str], specs: Mapping[str, InputSpec]
) -> dict[str, str]:
    """Return the kinds of modalities; files without them use the kinds of their inputs."""
    if "kinds" in values:
        return {
            name: str(values["kinds"][name]) for name in _known(values["kinds"], dict, modalities)
        }
    return {name: spec.kind for name, spec in specs.items() if spec.kind != name}


def _known(values: Any, kind: type[Any], modalities: Iterable[str]) -> list[str]:
    """Return the names in a list or an object; all must be names of modalities."""
    if not isinstance(values, kind) or not set(values) <= set(modalities):
        raise ValueError(f"{values!r:.60} in place of modalities")
    return list(values)


def _check_shapes(
    modalities: Mapping[str, tuple[int, ...]], specs: Mapping[str, InputSpec]
) -> None:
    """Check that inputs have the shapes of the modalities that they become; else ValueError."""
    for name, spec in specs.items():
        if modalities.get(name, spec.shape) != spec.shape:
            raise ValueError(f"input {name!r:.40} has another shape than the modality")


def _shape(values: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in values)
    if min(shape, default=1) < 1 or math.prod(shape) > _MOST_NUMBERS:
        raise ValueError(f"shape {list(shape)}")
    return shape
