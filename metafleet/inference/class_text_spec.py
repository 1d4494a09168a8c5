"""How names of classes become features that a model compares with its items."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metafleet.encoders.class_texts import ClassTexts
from metafleet.episode import CLASS_TEXT
from metafleet.inference.input_spec import InputSpec


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

    def is_of(self, items: InputSpec) -> bool:
        """Return whether the encoder of items is also that of the names."""
        return bool(items.options.get("encoder") == self.tower.options["encoder"])

    def with_encoder(self, name: str) -> "ClassTextSpec":
        """Return the same encoder under another name, as if its folder was moved."""
        return replace(self, tower=self.tower.with_encoder(CLASS_TEXT, name))

    def rows(self, names: Sequence[str], *, modality: str) -> Tensor:
        """Return the features of names, float32 [n, d].

        Args:
            names: names of classes.
            modality: the modality whose items have the same encoder, for messages.

        Raises:
            ModelError: the encoder on this machine has other weights than the encoder of the model.
            ConfigError, DataError, DataMissingError: for the same reasons as in
                ``ClassTexts.embed``.
        """
        self.tower.require_encoder(modality, advice="make the model again")
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
            KeyError, TypeError, ValueError: the values are damaged.
        """
        tower = InputSpec.from_json(CLASS_TEXT, values["tower"], allowed_packages=allowed_packages)
        if not tower.is_encoded:
            raise ValueError("no encoder of the names of classes")
        prompts = ClassTexts(prompts=tuple(str(prompt) for prompt in values["prompts"])).prompts
        return cls(tower, prompts)
