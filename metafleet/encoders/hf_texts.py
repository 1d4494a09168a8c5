"""Encode texts with a model of transformers and its tokenizer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metafleet.encoders.base import Array
from metafleet.encoders.graph_part import ANY, Calling, GraphPart, token_input
from metafleet.encoders.hf_model import HfModel, as_array
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.text_bytes import TEXT_BYTES, first_text, read_texts, require_text


class HfTexts(HfModel):
    """Encodes texts. The default pooling is the mean over the tokens in the attention mask."""

    tower, takes = "get_text_features", "input_ids"
    batch_items = 32
    can_cut = True

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the decoder option for bytes."""
        return {"max_bytes": TEXT_BYTES}

    def encode(self, items: Array) -> Array:
        """Encode texts uint8 [n, bytes]. A text with too many tokens is truncated."""
        with torch.inference_mode():
            return as_array(self._features(self._tokens(items)))

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return model and pooling, which take tokens."""
        twin = self._on_cpu()
        names = tuple(self._tokens(first_text(shape)))
        n_tokens = self._n_tokens if self._is_padded_full else ANY
        return GraphPart(
            tuple(token_input(f".{name}", n_tokens, self.name) for name in names),
            Calling(
                twin._model,
                lambda *values: twin._features(dict(zip(names, values, strict=True))),
            ),
            lambda items: tuple(self._tokens(items).values()),
        )

    def _features(self, tokens: Mapping[str, Tensor]) -> Tensor:
        rows, pooler = self.run(**tokens)
        mask = tokens.get("attention_mask")
        return self.pooled(
            rows, pooler, mask if mask is None or rows is None else mask.to(rows.device)
        )

    def _tokens(self, items: Array) -> dict[str, Tensor]:
        """Return the inputs of the model, such as "input_ids": int64 [n, tokens]."""
        with self._lock:  # tokenizers keep padding and truncation as state
            found = self._tokenizer(
                read_texts(items),
                padding="max_length" if self._is_padded_full else True,
                truncation=True,
                max_length=self._n_tokens,
                return_tensors="pt",
            )
        return dict(found)

    def too_long(self, items: Array) -> int:
        """Return how many texts have more tokens than the model takes."""
        with self._lock:
            found = self._tokenizer(
                read_texts(items), padding=False, truncation=False, verbose=False
            )
        return sum(len(ids) > self._n_tokens for ids in found["input_ids"])

    @loaded_once
    def _tokenizer(self) -> Any:
        folder = self._folder.checked()
        with self._folder.loading():
            tokenizer = self._library.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        if tokenizer.pad_token is None:  # padding is masked, so any token does
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        # after the text: before it, padding would move the text's positions in some models
        tokenizer.padding_side = "right"
        return tokenizer

    @loaded_once
    def _n_tokens(self) -> int:
        """Maximum number of tokens. In some models positions start after that of padding."""
        config: Any = self._model.config
        config = getattr(config, "text_config", None) or config
        taken = getattr(config, "max_position_embeddings", None) or TEXT_BYTES
        paddings = (
            module.padding_idx
            for name, module in self._model.named_modules()
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        )
        start = max((pad + 1 for pad in paddings if pad is not None), default=0)
        return min(int(self._tokenizer.model_max_length), int(taken) - start)

    @property
    def _is_padded_full(self) -> bool:
        """Whether the model was trained with texts that are padded to the same length."""
        config: Any = self._model.config
        return str(config.model_type).startswith("siglip")

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        require_text(self.name, shape)

    def _blank(self, shape: tuple[int, ...]) -> Array:
        return first_text(shape)
