"""Models of the library transformers, read by ``AutoModel`` from config.json and safetensors.

The models compute in float32. CLIP and similar models have two towers: one network for pictures and
one for texts. Only the tower of the encoder's modality is used. Its features are the vectors in the
space that both towers share.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from metafleet.encoders.base import Array
from metafleet.encoders.folder_encoder import FolderEncoder
from metafleet.encoders.graph_part import on_cpu
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.model_folder import on_meta, require_room
from metafleet.encoders.pooling import choose_pooling
from metafleet.encoders.runtime import device, encoder_library
from metafleet.errors import ConfigError, DataCorruptError

_INSTALL = "pip install 'metafleet[hf]'"
_PREPROCESSOR = ("preprocessor_config.json", "processor_config.json")


class HfModel(FolderEncoder):
    """An encoder that uses a model of transformers.

    Attributes:
        tower: for a model of two modalities, name of the method that returns the features of the
            encoder's modality.
        takes: name of the model's main input.
    """

    source = "hf"
    libraries = ("torch", "transformers", "tokenizers")
    tower: ClassVar[str]
    takes: ClassVar[str]
    poolings: ClassVar[tuple[str, ...]] = ("class_token", "mean", "max", "pooler")

    def __init__(self, name: str, place: str, kind: str, pooling: str = "") -> None:
        super().__init__(name, place, kind, pooling)
        if pooling:
            choose_pooling(name, pooling, self.poolings)

    @loaded_once
    def _library(self) -> Any:
        library = encoder_library("transformers", encoder=self.name, install=_INSTALL)
        library.utils.logging.disable_progress_bar()  # it would overwrite our progress bar
        return library

    @loaded_once
    def _model(self) -> nn.Module:
        folder, library = self._folder.checked(), self._library
        plain: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with self._folder.loading(), _quiet(library):
            config = library.AutoConfig.from_pretrained(folder, **plain)
            self._folder.require_depth(config.to_dict())
            with on_meta():
                require_room(self.name, library.AutoModel.from_config(config))
            model, info = library.AutoModel.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **plain,
            )
        missing = sorted(set(info["missing_keys"]))
        self._has_pooler = not any("pooler" in key for key in missing)
        absent = [key for key in missing if "pooler" not in key]
        if absent or info["mismatched_keys"]:
            raise DataCorruptError(
                f"encoder {self.name!r}: the weights are of another architecture than config.json "
                f"says: {len(absent)} of its tensors are missing, such as {absent[:1]}; get the "
                "model again"
            )
        self._two_towers = hasattr(model, self.tower)
        if config.is_encoder_decoder and not self._two_towers:
            model = model.get_encoder()
        self._require_input(model)
        return model.eval().to(device())  # type: ignore[no-any-return]

    @property
    def logit_scale(self) -> float | None:
        """The learned factor of a model with two towers for its cosines; None for other models."""
        found: Any = getattr(self._model, "logit_scale", None)
        return (
            float(found.detach().exp()) if self._two_towers and isinstance(found, Tensor) else None
        )

    def _preprocessing(self) -> Mapping[str, Any]:
        """Return the folder's configuration of the preprocessing of pictures or sounds.

        Raises:
            ConfigError: the folder has none, so the model takes neither pictures nor sounds.
        """
        values = self._folder.find_json(*_PREPROCESSOR)
        if values is None:
            raise ConfigError(
                f"encoder {self.name!r} has no preprocessor_config.json, so it takes no "
                f"{self._kind}; choose a model of {self._kind}, or add the file"
            )
        return values

    def _require_input(self, model: Any) -> None:
        found = getattr(model, "main_input_name", self.takes)
        if not self._two_towers and found != self.takes:
            raise ConfigError(
                f"encoder {self.name!r} takes {found}, and {self._kind} is {self.takes}; choose a "
                f"model of {self._kind}"
            )

    def _on_cpu(self) -> Self:
        """Return the same encoder with a copy of the model on the CPU."""
        twin, model = copy.copy(self), on_cpu(self._model)
        vars(twin)["_model"] = model
        return twin

    def run(self, **inputs: Any) -> tuple[Tensor | None, Tensor | None]:
        """Return the rows, one per token or position, and the output of the model's own pooling."""
        model = self._model
        place = next(model.parameters()).device
        inputs = {name: value.to(place) for name, value in inputs.items()}
        if self._two_towers:
            if self._pooling not in ("", "pooler"):
                raise ConfigError(
                    f"pooling={self._pooling!r}; encoder {self.name!r} has a space that its towers "
                    "share, expected '' or 'pooler'"
                )
            found = getattr(model, self.tower)(**inputs)
            return None, getattr(found, "pooler_output", found)
        found = model(**inputs)
        return found.last_hidden_state, getattr(found, "pooler_output", None)

    def pooled(
        self,
        rows: Tensor | None,
        pooler: Tensor | None,
        mask: Tensor | None,
        *,
        default: str = "mean",
    ) -> Tensor:
        """Return the pooled features, float32 [n, features].

        Args:
            rows: outputs, [n, rows, features].
            pooler: output of the model's own pooling, [n, features].
            mask: [n, rows], True for rows that are pooled; None to pool all rows.
            default: the pooling that is used if the user chose none.
        """
        chosen = "pooler" if rows is None else self._pooling or default
        if chosen == "pooler":
            if pooler is None or not self._has_pooler:
                raise ConfigError(
                    f"pooling='pooler'; encoder {self.name!r} has none that was trained; expected "
                    + " or ".join(repr(each) for each in self.poolings if each != "pooler")
                )
            found = pooler.flatten(1)
        else:
            assert rows is not None
            found = _pool(rows, chosen, mask)
        return found.float()


def as_array(features: Tensor) -> Array:
    """Return features as a contiguous array on the CPU."""
    return np.ascontiguousarray(features.cpu().numpy())


def _pool(rows: Tensor, pooling: str, mask: Tensor | None) -> Tensor:
    """Pool [n, rows, features] to [n, features]."""
    if pooling == "class_token":
        return rows[:, 0]
    if mask is None:
        return rows.amax(dim=1) if pooling == "max" else rows.mean(dim=1)
    kept = mask[:, :, None].to(rows.dtype)
    if pooling == "max":
        return rows.masked_fill(kept == 0, -torch.inf).amax(dim=1)
    return (rows * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1.0)


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Suppress the library's warnings inside the block; our own checks report what matters."""
    logging = library.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
