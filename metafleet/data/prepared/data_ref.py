"""Prepared data named by digest, so that every host of a run opens the same bytes.

Features of a pretrained encoder are computed once. If another machine or another version of a
library computed the features, their last bits would differ. A host that lacks the features
therefore receives a copy:

    <data_dir>/received/<sha256 of index.json>/    a copy of the folder of prepared data
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import INDEX, PreparedData, find_prepared, parse_index
from metafleet.data.prepared.preparing import (
    FILE_NAME,
    find_sound,
    publish,
    sweep,
    temporary,
)
from metafleet.data.prepared.received import received_folder
from metafleet.errors import ContractError, DataCorruptError, DataError
from metafleet.files import sync
from metafleet.locking import exclusive
from metafleet.options import parse_record

PIECE_BYTES: Final = 1 << 25
"""Files are sent in pieces of this length; only the last piece may be shorter."""

Fetch = Callable[[str, int, int], bytes | bytearray]
"""Gets a piece of a file, given the file's name, the number of the piece and its length."""


@dataclass(frozen=True, slots=True)
class DataRef:
    """The place of prepared data, the selection from them, and the digest of their index.

    The index contains the sha256 of every array.

    Attributes:
        options: name and options of the data set, as in a configuration.
        label, splits, modalities, version, label_separator: name and further members of
            ``ClassData``.
        folder: name of the folder in ``<data_dir>/prepared`` of the host that prepared the data.
        sha256, index_bytes: digest and length of the index.
    """

    options: Mapping[str, Any]
    label: str
    splits: Mapping[str, Any]
    modalities: tuple[str, ...]
    version: str
    folder: str
    sha256: str
    index_bytes: int
    label_separator: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any], data: ClassData) -> "DataRef":
        """Describe opened data. Reads the index."""
        text = (data.prepared.path / INDEX).read_bytes()
        return cls(
            options=dict(options),
            label=data.name,
            splits={split: list(names) for split, names in data.splits.items()},
            modalities=data.modalities,
            version=data.version,
            folder=data.prepared.path.name,
            sha256=hashlib.sha256(text).hexdigest(),
            index_bytes=len(text),
            label_separator=data.label_separator,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> "DataRef":
        """Parse the values that ``to_json`` returned.

        Raises:
            ContractError: the values do not describe data.
        """
        ref = parse_record(cls, values, where="a description of data", error=ContractError)
        is_digest = len(ref.sha256) == 64 and set(ref.sha256) <= set("0123456789abcdef")
        if not is_digest or not FILE_NAME.fullmatch(ref.folder):
            raise ContractError(
                f"data are described by folder {ref.folder!r:.80}, sha256 {ref.sha256!r:.80}; "
                "expected a name and 64 hexadecimal digits"
            )
        return ref

    def open(self, prepared: PreparedData) -> ClassData:
        """Return the chosen data."""
        return ClassData(
            self.label,
            prepared,
            self.splits,
            self.modalities,
            self.version,
            self.label_separator,
        )


def key_of(options: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal options of a data set."""
    return json.dumps(options, sort_keys=True)


def find_by_digest(data_dir: Path, ref: DataRef) -> PreparedData | None:
    """Return the data from a shared data folder, or received earlier; None if they differ."""
    for folder in (data_dir / "prepared" / ref.folder, _received(data_dir, ref)):
        try:
            is_same = hashlib.sha256((folder / INDEX).read_bytes()).hexdigest() == ref.sha256
        except OSError:
            continue
        if is_same and (found := find_sound(folder)) is not None:
            return found
    return None


def receive(data_dir: Path, ref: DataRef, fetch: Fetch) -> PreparedData:
    """Store a complete copy of the data, once for all processes of a host.

    Args:
        data_dir: folder of the data.
        ref: description of the data.
        fetch: a function that gets the pieces.

    Raises:
        DataCorruptError: the bytes do not match the digest.
        DataError: the data cannot be written.
        MetafleetError: ``fetch`` raised it.
    """
    folder = _received(data_dir, ref)
    try:
        with exclusive(folder.with_name(f".{folder.name}.lock")):
            found = find_by_digest(data_dir, ref)
            if found is not None:
                return found
            sweep(folder)
            with temporary(folder) as draft:
                _write(draft, ref, fetch)
                draft.chmod(draft.parent.stat().st_mode & 0o755)
                publish(draft, folder)
    except OSError as error:
        raise DataError(
            f"cannot write received data to {folder} ({error.strerror or error}); free space "
            "there or set METAFLEET_DATA_DIR to another folder"
        ) from error
    received = find_prepared(folder)
    if received is None:
        raise DataError(f"{folder} vanished while it was received; start the run again")
    return received


def pieces_of(n_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield (number, length) of the pieces of a file."""
    for number, start in enumerate(range(0, n_bytes, PIECE_BYTES)):
        yield number, min(PIECE_BYTES, n_bytes - start)


def files_of(ref: DataRef, prepared: PreparedData) -> dict[str, int]:
    """Return name -> length of the files to send, the index first."""
    arrays = {path.name: info.file_bytes for path, info in prepared.files()}
    return {INDEX: ref.index_bytes, **arrays}


def _received(data_dir: Path, ref: DataRef) -> Path:
    return received_folder(data_dir) / ref.sha256


def _write(draft: Path, ref: DataRef, fetch: Fetch) -> None:
    _write_file(draft / INDEX, ref.index_bytes, fetch)
    text = (draft / INDEX).read_bytes()
    if hashlib.sha256(text).hexdigest() != ref.sha256:
        raise DataCorruptError(f"the index of {ref.folder} was damaged on its way")
    prepared = parse_index(draft, text.decode())
    for path, info in prepared.files():
        if path.parent != draft or not FILE_NAME.fullmatch(path.name):
            raise DataCorruptError(f"the index of {ref.folder} names the file {path.name!r:.80}")
        _write_file(path, info.file_bytes, fetch)
    prepared.verify()


def _write_file(path: Path, n_bytes: int, fetch: Fetch) -> None:
    with path.open("wb") as handle:
        for number, length in pieces_of(n_bytes):
            handle.write(fetch(path.name, number, length))
    sync(path)
