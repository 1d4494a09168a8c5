"""A folder of weights and configuration, checked before a library reads it."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from metafleet.encoders.fetching import find_folder
from metafleet.encoders.weights import FirstDigests, file_sha256
from metafleet.errors import ConfigError, DataCorruptError, DataMissingError, MetafleetError

_DECIDING: Final = (".json", ".safetensors", ".txt", ".model")
"""Suffixes of files on which the features depend."""
_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_WHOLE: Final = ".safetensors"
_WEIGHTS: Final = f"*{_WHOLE}"
_SHARDS: Final = f"{_WHOLE}.index.json"
"""Ending of the name of the file that says in which file each tensor is."""
_ATTENTION: Final = ("attn_implementation", "_attn_implementation")
_FLOAT_BYTES: Final = 4
_ROOM: Final = 1.25
"""Memory that weights and one batch need, in multiples of the weights' size."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with a model's weights and configuration.

    Attributes:
        encoder: full name of the encoder, for messages.
        place: a path, or "owner/name@COMMIT" for a model of the hub.
    """

    encoder: str
    place: str
    _first: FirstDigests = field(
        default_factory=FirstDigests, init=False, repr=False, compare=False
    )

    def checked(self) -> Path:
        """Return the folder, after checking its files.

        The weights must be complete safetensors in the folder. The model must not need code from
        the folder. No file may have changed since the first call.

        Raises:
            ConfigError: weights are only in pickles or in another folder, the model needs code from
                the folder, or ``place`` names a model of the hub without a commit.
            DataMissingError: the folder does not exist, or it has no weights.
            DataCorruptError: a file is truncated, damaged or changed.
        """
        folder = find_folder(self.encoder, self.place)
        self._require_weights(folder)
        for path in folder.rglob("*.json"):
            if path.name.endswith("config.json") and _asks_for_code(self.read_json(path)):
                raise ConfigError(
                    f"encoder {self.encoder!r}: {path} asks to run code of the model's authors, "
                    "which is never run; choose a model that the installed library knows"
                )
            if path.name.endswith(_SHARDS):
                self._require_own_shards(path)
        self._first.require_same(self.encoder, _digests(folder))
        return folder

    def digests(self) -> dict[str, str]:
        """Return path of a file -> its sha256, for all files on which the features depend.

        Paths are relative to the folder.

        Raises:
            ConfigError, DataMissingError, DataCorruptError: for the same reasons as ``checked``.
        """
        return _digests(self.checked())

    def find_json(self, *names: str) -> Mapping[str, Any] | None:
        """Return the first of these JSON files that exists in the folder; None if none exists."""
        folder = self.checked()
        paths = (folder / name for name in names)
        return next((self.read_json(path) for path in paths if path.is_file()), None)

    def read_json(self, path: Path) -> Mapping[str, Any]:
        """Return the JSON object in a file; an empty one if the file has another value.

        Raises:
            DataCorruptError: the file cannot be read, or is not JSON.
        """
        found = self.read_value(path)
        return found if isinstance(found, dict) else {}

    def read_value(self, path: Path) -> Any:
        """Return the JSON value in a file. Raises the errors of ``read_json``."""
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DataCorruptError(
                f"encoder {self.encoder!r}: {path} is damaged ({error}); get the model again"
            ) from error

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Return name -> shape of the tensors in all files of weights.

        Raises:
            DataCorruptError: a file is truncated or damaged.
        """
        import safetensors  # noqa: PLC0415 - importing Metafleet does not need it

        folder = find_folder(self.encoder, self.place)
        found: dict[str, tuple[int, ...]] = {}
        for path in sorted(folder.rglob(_WEIGHTS)):
            try:
                with safetensors.safe_open(path, "pt") as file:
                    found |= {
                        key: tuple(file.get_slice(key).get_shape()) for key in list(file.keys())
                    }
            except (safetensors.SafetensorError, OSError, ValueError) as error:
                raise DataCorruptError(
                    f"encoder {self.encoder!r}: the weights {path} are truncated or damaged "
                    f"({error}); get them again"
                ) from error
        return found

    def weights(self, *names: str) -> Path:
        """Return the first named file that exists, or else the folder's only file of weights.

        Raises:
            DataMissingError: none of the named files exists, and the folder has either no file of
                weights or several.
        """
        folder = self.checked()
        for name in names:
            if (folder / name).is_file():
                return folder / name
        found = sorted(folder.glob(_WEIGHTS))
        if len(found) != 1:
            raise DataMissingError(
                f"encoder {self.encoder!r}: {folder} has {len(found)} files of weights; expected "
                f"{names[0]}"
            )
        return found[0]

    def require_safe_parts(self) -> None:
        """Check that no module of the folder has its weights only as a pickle.

        Raises:
            ConfigError: a module has its weights only as a pickle.
        """
        for path in sorted(self.checked().rglob("*")):
            if path.suffix in _PICKLES and not any(path.parent.glob(_WEIGHTS)):
                raise self._pickled(path.parent, path.name)

    def require_depth(self, values: Any) -> None:
        """Refuse a configuration with too many layers, because building the model would hang.

        Raises:
            DataCorruptError: the configuration has more layers than the folder has tensors.
        """
        n_tensors = len(self.layout())
        for name, n in _depths(values):
            if n > n_tensors:
                raise DataCorruptError(
                    f"encoder {self.encoder!r}: the configuration has {name}={n}, and the weights "
                    f"have {n_tensors} tensors; they are of another architecture; get the model "
                    "again"
                )

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Convert errors that a library raises while it loads the model to one-line errors."""
        try:
            with offline():
                yield
        except MetafleetError:
            raise
        except Exception as error:  # a library may raise anything
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = " ".join(lines)[:200]
            raise DataCorruptError(
                f"encoder {self.encoder!r} cannot be loaded ({type(error).__name__}: {reason}); "
                "check that configuration and weights belong together, and that this version of "
                "the library knows the model"
            ) from error

    def _require_weights(self, folder: Path) -> None:
        if self.layout():
            return
        pickles = sorted(p.name for p in folder.rglob("*") if p.suffix in _PICKLES)
        if pickles:
            raise self._pickled(folder, pickles[0])
        raise DataMissingError(
            f"encoder {self.encoder!r}: {folder} has no weights; expected {_WEIGHTS} next to the "
            "configuration"
        )

    def _require_own_shards(self, index: Path) -> None:
        """Check that an index of weights names only safetensors files in its own folder.

        A library would also read files outside the folder or of other types. No digest covers such
        files, and they can be pickles.
        """
        found = self.read_json(index).get("weight_map")
        for name in found.values() if isinstance(found, Mapping) else (found,):
            if not isinstance(name, str) or Path(name).name != name or Path(name).suffix != _WHOLE:
                raise ConfigError(
                    f"encoder {self.encoder!r}: {index} names the file of weights {name!r:.80}; "
                    "expected safetensors files next to it; get the model again"
                )

    def _pickled(self, folder: Path, name: str) -> ConfigError:
        return ConfigError(
            f"encoder {self.encoder!r}: {folder} has its weights as a pickle alone ({name}), which "
            "can run code when it is read; convert it to model.safetensors with the library that "
            "made it"
        )


def _digests(folder: Path) -> dict[str, str]:
    found = sorted(p for p in folder.rglob("*") if p.suffix in _DECIDING and p.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in found}


def require_room(encoder: str, network: nn.Module) -> None:
    """Check that this machine has enough memory for a network.

    Args:
        encoder: name of the encoder, for the message.
        network: the network on the device "meta", where its weights take no memory.

    Raises:
        DataMissingError: the network does not fit into memory. Nothing was allocated.
    """
    tensors = (*network.parameters(), *network.buffers())
    require_bytes(encoder, sum(tensor.numel() for tensor in tensors) * _FLOAT_BYTES)


def require_bytes(encoder: str, weights_bytes: int) -> None:
    """Check that this machine has enough memory for weights and one batch.

    Raises:
        DataMissingError: the weights and a batch do not fit into memory. Nothing was allocated.
    """
    needed, free = int(weights_bytes * _ROOM), free_bytes()
    if needed > free:
        raise DataMissingError(
            f"encoder {encoder!r} needs {needed / 2**30:.1f} GiB of memory; {free / 2**30:.1f} GiB "
            "are free; choose a smaller model, or prepare the data on a larger machine"
        )


def free_bytes() -> int:
    """Return the memory that is still available; all memory if the system does not report it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def on_meta() -> torch.device:
    """Return the device on which networks have shapes but take no memory."""
    return torch.device("meta")


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Prevent libraries from downloading files that a folder lacks, inside the block."""
    try:
        from huggingface_hub import constants  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _depths(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Yield (name, number) of every setting in a configuration that is a number of layers."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _depths(each, str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _depths(each, name)
    elif isinstance(value, int) and ("layer" in name or "depth" in name):
        yield name, value


def _asks_for_code(value: Any) -> bool:
    """Return whether a configuration names code of the model's authors, or asks to trust such code.

    If the name of the attention implementation has the form owner/name, it is code from the hub.
    """
    if isinstance(value, Mapping):
        is_on = any(value.get(name) for name in ("trust_remote_code", "auto_map"))
        is_on |= any("/" in str(value.get(name)) for name in _ATTENTION)
        return is_on or any(_asks_for_code(each) for each in value.values())
    return isinstance(value, list) and any(_asks_for_code(each) for each in value)
