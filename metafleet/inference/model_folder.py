"""The folder format of a model: a JSON header, tensors as safetensors, and a model card.

    MODEL/model.json            format, kind, blueprint, origin, classes, digests
    MODEL/tensors.safetensors   params.*, buffers.*; memory.* and support.* of an adapted model
    MODEL/encoder-*             copies of an encoder's weights, if the user requested them
    MODEL/README.md             the model card, for people; programs do not read it

A folder is written under a temporary name and then renamed, so a folder under its final name is
complete. Nothing is unpickled. Sizes, digests and names are checked against model.json before any
tensor is allocated.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from metafleet.digests import MOST_LEVELS, is_deep, json_sha256
from metafleet.errors import ModelError
from metafleet.files import sync
from metafleet.params import Params

TensorLayout: TypeAlias = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype."""
FORMAT: Final = "metafleet-model"
VERSION: Final = 1
_HEADER: Final = "model.json"
_TENSORS: Final = "tensors.safetensors"
_CARD: Final = "README.md"
_OF_ADAPTED: Final = ("memory.", "support.")
_MAX_HEADER_BYTES: Final = 1 << 24
_CHUNK_BYTES: Final = 1 << 20


def check_free(folder: Path, *, force: bool) -> None:
    """Check that a model may be written to ``folder``.

    With ``force``, an existing folder may be replaced only if it holds nothing but a model. If the
    user has edited the model card, the folder is not replaced.

    Raises:
        ModelError: the folder exists, or its parent does not.
    """
    if not folder.absolute().parent.is_dir():
        raise ModelError(f"{folder} cannot be written: {folder.parent} is no folder; make it first")
    if not os.path.lexists(folder):
        return
    if not force:
        raise ModelError(f"{folder} exists; choose another name, or give --force to replace it")
    header = _find_ours(folder / _HEADER)
    if header is None:
        raise ModelError(f"{folder} exists and is no model, so it is left alone; choose another")
    names = {path.name for path in folder.iterdir()} - {_HEADER, _TENSORS} - _kept_names(header)
    if _CARD in names and _is_as_written(folder / _CARD, header.get("card_sha256")):
        names.remove(_CARD)
    if _CARD in names and "card_sha256" in header:
        raise ModelError(
            f"{folder / _CARD} was edited, so {folder} is left alone; move the card elsewhere, or "
            "choose another folder"
        )
    if others := sorted(names):
        raise ModelError(
            f"{folder} is a model but holds {others[0]!r:.80} as well, so it is left alone; move "
            "that elsewhere, or choose another"
        )


def _kept_names(header: Mapping[str, Any]) -> set[str]:
    """Return the names of the copies of encoders' weights; none if the header is damaged."""
    try:
        names = {str(it["file"]) for it in header.get("encoder_files", {}).values()}
    except (AttributeError, TypeError, KeyError):
        return set()
    return {name for name in names if name.startswith("encoder-")}


def _find_ours(path: Path) -> dict[str, Any] | None:
    """Return a model's header, even of another version or damaged; None if there is none."""
    try:
        header = json.loads(_read_header(path))
    except (OSError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and header.get("format") == FORMAT else None


def _is_as_written(card: Path, sha256: object) -> bool:
    try:
        return hashlib.sha256(_read_header(card)).hexdigest() == sha256
    except OSError:
        return False


def write_model(  # noqa: PLR0913 - parts of one folder
    folder: Path,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    card: str,
    *,
    force: bool,
    check: Callable[[Path], None],
    encoder_files: Mapping[str, tuple[str, bytes]] | None = None,
) -> None:
    """Write a model atomically.

    Args:
        folder: the folder to create.
        header: JSON values of the header. This function adds the entries "format", "version",
            "tensors", "card_sha256" and "digest".
        tensors: all tensors of the model, by name.
        card: text of the model card.
        force: whether to replace an existing model.
        check: called with the new folder before it is moved into place. If it raises, nothing
            changes.
        encoder_files: sha256 of a published file of weights -> name and content of its copy.

    Raises:
        ModelError: the folder exists or cannot be written, or the disk is full.
    """
    from safetensors.torch import save  # noqa: PLC0415 - importing metafleet needs only torch

    check_free(folder, force=force)
    # copies: the format refuses tensors that share storage, such as expanded ones
    data = save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    )
    readme = card.encode(errors="replace")
    whole = {
        "format": FORMAT,
        "version": VERSION,
        **header,
        "tensors": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "card_sha256": hashlib.sha256(readme).hexdigest(),
    }
    copies = dict((encoder_files or {}).values())
    if encoder_files:
        whole["encoder_files"] = {
            sha256: {
                "file": name,
                "bytes": len(copy),
                "sha256": hashlib.sha256(copy).hexdigest(),
            }
            for sha256, (name, copy) in encoder_files.items()
        }
    whole["digest"] = _digest(whole)
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = {_TENSORS: data, **copies, _HEADER: text.encode(), _CARD: readme}
    try:
        _write_folder(Path(os.path.realpath(folder)), files, check)
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written ({error.strerror or error}); free space, or choose "
            "another place"
        ) from error


def read_header(folder: Path) -> dict[str, Any]:
    """Read model.json and check its digest.

    Raises:
        ModelError: there is no model, or the model is damaged or has another format version.
    """
    path = folder / _HEADER
    try:
        text = _read_header(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{folder} is no model: {_HEADER} cannot be read ({why}); make one with "
            "`metafleet adapt`"
        ) from error
    try:
        header = json.loads(text)
        found = (header["format"], header["version"])
        if is_deep(header):
            raise ValueError(f"more than {MOST_LEVELS} levels of lists and tables")
        json.dumps(header, allow_nan=False)  # raises ValueError for NaN and 1e999
        digest = _digest(header)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"{path} is damaged, or no model of ours ({error!r:.80})") from error
    if found != (FORMAT, VERSION):
        raise ModelError(
            f"{path} has format {found[0]!r:.40} {found[1]!r:.20}; this version reads {FORMAT!r} "
            f"{VERSION}"
        )
    if digest != header.get("digest"):
        raise ModelError(f"{path} is damaged: it does not hash to its digest; make the model again")
    return dict(header)


def _read_header(path: Path) -> bytes:
    """Read a regular file; opening a pipe would block until a writer opens it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")
    with path.open("rb") as handle:
        return handle.read(_MAX_HEADER_BYTES + 1)  # a longer file is cut, and so not valid JSON


def read_tensors(
    folder: Path, header: Mapping[str, Any], expected: Mapping[str, TensorLayout]
) -> Params:
    """Return the tensors of a model's folder.

    Args:
        folder: folder of the model.
        header: result of ``read_header``.
        expected: name -> shape and dtype of each required tensor. Names of all other tensors must
            begin with "memory." or "support.".

    Raises:
        ModelError: the file is missing or damaged, or belongs to another model.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - as above

    path = folder / _TENSORS
    try:
        check_file(path, header["tensors"])
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            _check_names(path, names, expected)
            for name, (shape, _) in expected.items():
                found = tuple(file.get_slice(name).get_shape())
                if found != shape:
                    raise ModelError(
                        f"tensor {name!r} in {path} has shape {list(found)}; the model described "
                        f"by {_HEADER} has {list(shape)}"
                    )
            tensors = {name: file.get_tensor(name) for name in sorted(names)}
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error!s:.120}); make the model again") from error
    _check_dtypes(path, tensors, {name: dtype for name, (_, dtype) in expected.items()})
    return tensors


def check_file(path: Path, promised: Mapping[str, Any]) -> None:
    """Check that a file has the size and the sha256 that the header lists.

    Raises:
        ModelError: the size or the sha256 differs.
        OSError: the file cannot be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"{path} is no plain file; make the model again")
    size = found.st_size
    if size != promised["bytes"]:
        written = f"{promised['bytes']!r:.40}"
        raise ModelError(f"{path} has {size} bytes; {written} were written: damaged")
    sha = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            sha.update(chunk)
    if sha.hexdigest() != promised["sha256"]:
        raise ModelError(f"{path} is damaged: its sha256 differs; make the model again")


def _check_names(path: Path, names: set[str], expected: Mapping[str, Any]) -> None:
    missing = sorted(expected.keys() - names)
    extra = sorted(n for n in names - expected.keys() if not n.startswith(_OF_ADAPTED))
    if missing or extra:
        raise ModelError(
            f"{path} does not fit its {_HEADER}: missing {missing[:3]!r:.80}, unexpected "
            f"{extra[:3]!r:.80}"
        )


def _check_dtypes(path: Path, tensors: Params, expected: Mapping[str, torch.dtype]) -> None:
    for name, dtype in expected.items():
        if tensors[name].dtype != dtype:
            raise ModelError(
                f"tensor {name!r} in {path} is {tensors[name].dtype}; the model described by "
                f"{_HEADER} has {dtype}"
            )


def _digest(header: Mapping[str, Any]) -> str:
    content = {key: value for key, value in header.items() if key != "digest"}
    return json_sha256(content)


def _write_folder(folder: Path, files: Mapping[str, bytes], check: Callable[[Path], None]) -> None:
    """Write to a sibling folder, check it, rename it; delete the old folder last."""
    partial = folder.with_name(f".{folder.name}.part-{secrets.token_hex(4)}")
    old = partial.with_name(f"{partial.name}.old")
    partial.mkdir()
    try:
        for name, data in files.items():
            (partial / name).write_bytes(data)
            sync(partial / name)
        sync(partial)
        check(partial)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():  # an error or Ctrl-C between the two renames
            old.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
