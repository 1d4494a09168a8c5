"""Models of open_clip in a folder, which encode pictures and texts as vectors in the same space.

The folder contains ``open_clip_config.json``, ``open_clip_model.safetensors``, and a tokenizer
unless the model uses CLIP's tokenizer. Source: Radford et al. 2021, arXiv:2103.00020.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch

from metafleet.encoders.base import Array
from metafleet.encoders.folder_encoder import FolderEncoder
from metafleet.encoders.graph_part import Calling, GraphPart, on_cpu, token_input
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.model_folder import on_meta, require_room
from metafleet.encoders.picture_part import picture_part
from metafleet.encoders.pixels import PixelRule
from metafleet.encoders.pooling import choose_pooling
from metafleet.encoders.runtime import device, encoder_library
from metafleet.encoders.text_bytes import TEXT_BYTES, first_text, read_texts, require_text
from metafleet.errors import ConfigError

INSTALL: Final = "pip install 'metafleet[clip]'"
_CONFIG: Final = "open_clip_config.json"
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's values, for configurations without their own."""
_RESIZED: Final = {"shortest": "center", "squash": "stretch"}


class _OpenClip(FolderEncoder):
    """One tower of a model. The whole model is loaded."""

    source = "open_clip"
    libraries = ("torch", "open_clip_torch", "timm", "transformers", "tokenizers")

    def __init__(self, name: str, place: str, kind: str, pooling: str = "") -> None:
        super().__init__(name, place, kind, pooling)
        choose_pooling(name, pooling, ())

    @loaded_once
    def _library(self) -> Any:
        return encoder_library("open_clip", encoder=self.name, install=INSTALL)

    @loaded_once
    def _config(self) -> Mapping[str, Any]:
        values = self._folder.find_json(_CONFIG)
        if values is None or not isinstance(values.get("model_cfg"), Mapping):
            raise ConfigError(
                f"encoder {self.name!r} has no {_CONFIG} with model_cfg; expected a folder of "
                "open_clip"
            )
        return values

    @loaded_once
    def _model(self) -> Any:
        folder, library = self._folder.checked(), self._library
        self._folder.require_depth(self._config)
        # not with weights of the text tower alone, which may be a pickle elsewhere
        made = {
            "model_name": f"local-dir:{folder}",
            "load_weights": False,
            "pretrained_text": False,
        }
        with self._folder.loading(), _quiet():
            with on_meta():
                require_room(self.name, library.create_model(**made, device="meta"))
            model = library.create_model(**made)
            weights = self._folder.weights(
                "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"
            )
            library.load_checkpoint(model, str(weights), strict=True)
        return model.float().eval().to(device())

    @property
    def logit_scale(self) -> float | None:
        """The factor that the model learned for its cosines."""
        return float(self._model.logit_scale.detach().exp())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warning that a model has no weights, which are loaded later in the block."""

    def is_other(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    logging.root.addFilter(is_other)  # open_clip logs to the root logger
    try:
        yield
    finally:
        logging.root.removeFilter(is_other)


class OpenClipImages(_OpenClip):
    """Encodes pictures."""

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return decoder options for pictures that are resized and cropped as in training."""
        return self._rule.reading()

    def encode(self, items: Array) -> Array:
        """Encode pictures uint8 [n, 3, side, side]."""
        with torch.inference_mode():
            found = self._model.encode_image(self._rule.normalised(items).to(device()))
            return np.ascontiguousarray(found.float().cpu().numpy())

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return normalisation and the tower of pictures."""
        model = on_cpu(self._model)
        return picture_part(self._rule, Calling(model, model.encode_image))

    @loaded_once
    def _rule(self) -> PixelRule:
        vision = self._table("vision_cfg", self._config["model_cfg"])
        values = self._table("preprocess_cfg", self._config)
        size, mode = vision.get("image_size", 224), values.get("resize_mode", "shortest")
        sides = size if isinstance(size, list) else [size]
        fit = _RESIZED.get(mode) if isinstance(mode, str) else None
        if not sides or any(side != sides[0] for side in sides) or fit is None:
            raise ConfigError(
                f"encoder {self.name!r} takes pictures of {size!r:.60} by resize_mode={mode!r:.60};"
                f" expected square ones by {', '.join(_RESIZED)}"
            )
        return PixelRule.checked(
            f"encoder {self.name!r}: {_CONFIG}",
            side=sides[0],
            crop_share=1.0,
            resample=values.get("interpolation", "bicubic"),
            mean=values.get("mean", _MEAN),
            std=values.get("std", _STD),
            fit=fit,
        )

    def _table(self, name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        found = values.get(name, {})
        if not isinstance(found, Mapping):
            raise ConfigError(
                f"encoder {self.name!r}: {_CONFIG} has {name}={found!r:.60}; expected a table"
            )
        return found

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        self._rule.require_shape(self.name, shape)

    def _blank(self, shape: tuple[int, ...]) -> Array:
        return np.zeros((1, *shape), np.uint8)


class OpenClipTexts(_OpenClip):
    """Encodes texts, such as the names of classes."""

    batch_items = 32
    can_cut = True

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the decoder option for bytes."""
        return {"max_bytes": TEXT_BYTES}

    def encode(self, items: Array) -> Array:
        """Encode texts uint8 [n, bytes]. A text with too many tokens is truncated."""
        with self._lock:  # tokenizers keep padding and truncation as state
            tokens = self._tokenizer(read_texts(items))
        with torch.inference_mode():
            found = self._model.encode_text(tokens.to(device()))
            return np.ascontiguousarray(found.float().cpu().numpy())

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return the tower of texts, which takes tokens."""
        model = on_cpu(self._model)
        n_tokens = int(self._tokenizer.context_length)
        return GraphPart(
            (token_input(".input_ids", n_tokens, self.name),),
            Calling(model, model.encode_text),
            lambda items: (self._tokenizer(read_texts(items)),),
        )

    def too_long(self, items: Array) -> int:
        """Return how many texts have, with start and end, more tokens than the model takes."""
        with self._lock:
            lengths = [self._n_tokens(text) for text in read_texts(items)]
        return sum(length > self._tokenizer.context_length for length in lengths)

    def _n_tokens(self, text: str) -> int:
        inner = getattr(self._tokenizer, "tokenizer", None)  # of transformers
        if inner is not None:
            return len(inner(text, verbose=False)["input_ids"])
        return len(self._tokenizer.encode(text)) + 2

    @loaded_once
    def _tokenizer(self) -> Any:
        folder = self._folder.checked()
        with self._folder.loading():
            return self._library.get_tokenizer(f"local-dir:{folder}")

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        require_text(self.name, shape)

    def _blank(self, shape: tuple[int, ...]) -> Array:
        return first_text(shape)
