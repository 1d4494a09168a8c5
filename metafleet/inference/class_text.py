"""Names of classes as a modality, for models whose support sets in training include these names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metafleet.encoders.class_texts import ClassTexts
from metafleet.episode import CLASS_TEXT, presence_key
from metafleet.episodes.class_names import name_bytes
from metafleet.inference.input_spec import InputSpec
from metafleet.problem import Problem

if TYPE_CHECKING:
    from metafleet.inference.blueprint import Blueprint


@dataclass(frozen=True, slots=True)
class ClassTextSpec:
    """How names of classes become features.

    Attributes:
        tower: the encoder of the names, as an input of kind "text".
        prompts: as in ``ClassTexts``.
    """

    tower: InputSpec
    prompts: tuple[str, ...]

    @classmethod
    def of(cls, texts: ClassTexts) -> "ClassTextSpec":
        """Describe the encoder.

        Raises:
            ConfigError: there is no such encoder of texts.
            DataMissingError, DataCorruptError: its weights are missing or damaged.
        """
        return cls(InputSpec.of_encoder("text", texts.encoder, {}), texts.prompts)

    def rows(self, names: Sequence[str]) -> Tensor:
        """Return the features of names, float32 [n, d].

        Raises:
            ModelError: the encoder here has other weights than the model's.
            ConfigError, DataError, DataMissingError: ``ClassTexts.embed`` raised it.
        """
        self.tower.require_encoder()
        texts = ClassTexts(str(self.tower.options["encoder"]), self.prompts)
        return torch.from_numpy(texts.embed(names))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values for ``from_json``."""
        return {"tower": self.tower.to_json(), "prompts": list(self.prompts)}

    @classmethod
    def from_json(cls, values: Any, *, allowed_packages: Sequence[str] = ()) -> "ClassTextSpec":
        """Parse the values that ``to_json`` returned.

        Raises:
            ModelError, ConfigError: as in ``InputSpec.from_json``.
            KeyError, TypeError: the values are damaged.
        """
        tower = InputSpec.from_json(CLASS_TEXT, values["tower"], allowed_packages=allowed_packages)
        prompts = ClassTexts(prompts=tuple(str(prompt) for prompt in values["prompts"])).prompts
        return cls(tower, prompts)


def with_class_text(
    blueprint: "Blueprint", inputs: Mapping[str, Tensor], labels: Sequence[str]
) -> dict[str, Tensor]:
    """Add the names of the support examples' classes, if the problem has them.

    Raises:
        The errors of ``ClassTextSpec.rows``.
    """
    if CLASS_TEXT not in blueprint.problem.modalities:
        return dict(inputs)
    names = list(dict.fromkeys(labels))
    spec = blueprint.class_text
    known = torch.stack([name_bytes(name) for name in names]) if spec is None else spec.rows(names)
    rows = known[[names.index(label) for label in labels]]
    return {**inputs, CLASS_TEXT: rows, presence_key(CLASS_TEXT): torch.ones(len(rows))}


def without_class_text(problem: Problem, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Mark the class name of queries as absent, if the problem has class names."""
    if CLASS_TEXT not in problem.modalities:
        return inputs
    n = next(iter(inputs.values())).shape[0]
    nothing = {
        CLASS_TEXT: torch.zeros(n, *problem.modalities[CLASS_TEXT]),
        presence_key(CLASS_TEXT): torch.zeros(n),
    }
    return {**inputs, **nothing}
