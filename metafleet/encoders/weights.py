"""Find files of weights in installed packages, and check their digests."""

import functools
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch

from metafleet.errors import DataCorruptError, DataMissingError
from metafleet.params import digest

_KEPT_SUFFIXES: Final = {".pth": ".safetensors"}
_kept: dict[str, list[Path]] = {}
"""sha256 of a published file -> what models' folders have as its copies."""


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A file of weights in a third-party package.

    Attributes:
        module: the package's import name. The package is never imported.
        path: path of the file within the package.
        sha256: digest of the file as it was published.
        install: the command that installs the package.
        tensors_sha256: ``digest`` of the tensors, if the file is a checkpoint that is copied as
            safetensors; "" for other files.
    """

    module: str
    path: str
    sha256: str
    install: str
    tensors_sha256: str = ""

    def find(self, encoder: str) -> Path:
        """Return the path of the file, after checking its digest.

        Raises:
            DataMissingError: the package is not installed, or it does not have the file.
            DataCorruptError: the file is not the published one.
        """
        found = _folder_of(self.module)
        path = None if found is None else found / self.path
        if path is None or not path.is_file():
            for kept in _kept.get(self.sha256, ()):
                if kept.is_file() and self._is_copy(kept):
                    return kept
            raise DataMissingError(
                f"encoder {encoder!r} needs the weights of package {self.module!r}, which is not "
                f"installed here; run `{self.install}`"
            )
        sha256 = file_sha256(path)
        if sha256 != self.sha256:
            raise DataCorruptError(
                f"the weights {path} of encoder {encoder!r} have sha256 {sha256[:16]}...; expected "
                f"{self.sha256[:16]}...; run `{self.install} --force-reinstall`"
            )
        return path

    def _is_copy(self, path: Path) -> bool:
        """Return whether a file in a model's folder, which others may have made, is a copy."""
        if not self.tensors_sha256:
            return file_sha256(path) == self.sha256
        is_safe = path.suffix == ".safetensors"
        return is_safe and _digest_of_tensors(path, *_stamp(path)) == self.tensors_sha256

    @property
    def kept_name(self) -> str:
        """The name of this file's copy in a model's folder; a checkpoint becomes safetensors."""
        suffix = Path(self.path).suffix
        return f"encoder-{self.sha256[:16]}{_KEPT_SUFFIXES.get(suffix, suffix)}"

    def content_to_keep(self, encoder: str) -> bytes:
        """Return the content of this file's copy in a model's folder.

        Raises:
            DataMissingError, DataCorruptError: for the same reasons as ``find``.
        """
        path = self.find(encoder)
        if path.suffix not in _KEPT_SUFFIXES:
            return path.read_bytes()
        from safetensors.torch import save  # noqa: PLC0415 - importing metafleet needs only torch

        return save({name: value.contiguous() for name, value in load_state(path).items()})


class FirstDigests:
    """The digests of an encoder's files when they were first read.

    An encoder keeps settings and weights in memory. If a file changes later, the digest of the
    changed file does not describe the features that the encoder computes.
    """

    def __init__(self) -> None:
        self._first: Mapping[str, str] | None = None

    def require_same(self, encoder: str, found: Mapping[str, str]) -> None:
        """Check that ``found`` (file name -> sha256) is the same as in the first call.

        Raises:
            DataCorruptError: a file was changed, added or removed since the first call.
        """
        if self._first is None:
            self._first = dict(found)
        first = self._first
        changed = sorted(n for n in {*first, *found} if first.get(n) != found.get(n))
        if changed:
            raise DataCorruptError(
                f"encoder {encoder!r}: {changed[0]!r} changed after this process had read it; "
                "restart the process to use the new files, or restore the old ones"
            )


def keep(file_sha256: str, path: Path) -> None:
    """Use a copy in a model's folder from now on, if the file's package is not installed.

    Args:
        file_sha256: sha256 of the file as it was published.
        path: the copy. ``PackagedFile.find`` checks that it is a copy of the published file.
    """
    known = _kept.setdefault(file_sha256, [])
    if path not in known:
        known.append(path)


def load_state(path: Path) -> dict[str, Any]:
    """Return name -> tensor of a checkpoint or a safetensors file; nothing else is unpickled."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415 - as above

        return load_file(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file. The result is cached until the file changes.

    Raises:
        DataMissingError: the file cannot be read.
    """
    try:
        return _sha256(path, *_stamp(path))
    except OSError as error:
        raise DataMissingError(
            f"weights {path} cannot be read ({error.strerror or error}); check the path"
        ) from error


def version_of(distribution: str) -> str:
    """Return the version of a distribution; "" if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, n_bytes: int, changed_ns: int) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@functools.lru_cache(maxsize=16)
def _digest_of_tensors(path: Path, n_bytes: int, changed_ns: int) -> str:
    """Return the digest of a safetensors file's tensors; "" if it is no such file."""
    from safetensors import SafetensorError  # noqa: PLC0415 - importing metafleet needs only torch

    try:
        return digest(load_state(path))
    except (OSError, SafetensorError):
        return ""


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _folder_of(module: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None
