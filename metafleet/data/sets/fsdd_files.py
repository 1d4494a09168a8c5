"""The recordings of FSDD on disk: in a folder, or in the archive of the repository."""

import hashlib
import re
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metafleet.data.decoding.source import FileBytes, Source
from metafleet.data.prepared.download import UnpinnedFile, hash_file
from metafleet.errors import DataCorruptError

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
N_EACH = 50
Key = tuple[int, str, int]
"""(digit, speaker, number of the recording)."""
_COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
_ARCHIVE_NAME = f"free-spoken-digit-dataset-{_COMMIT}.tar.gz"
_RECORDINGS_SHA256 = "219ab52e58f4d783b6757eb20d0618c750b8b34477781b66c2264bb4b1d13009"
_MEMBER = re.compile(rf"(?:^|/)(\d)_({'|'.join(SPEAKERS)})_(\d+)\.wav$")
_MAX_MEMBERS = 20_000
_MAX_BYTES = 1 << 28
_MAX_RECORDING_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Recordings:
    """All 3,000 recordings.

    Attributes:
        kind: "folder" or "archive", the form in which the recordings were found.
        fingerprint: hash of the archive; for a folder, hash of the names, sizes and modification
            times of the files.
        read: a function that returns the source of each recording.
    """

    kind: str
    fingerprint: str
    read: Callable[[], Mapping[Key, Source]]


def find_recordings(root: Path) -> Recordings | None:
    """Return the recordings at ``root``; None unless all of them are there."""
    if root.is_file():
        return Recordings("archive", hash_file(root), partial(_read_archive, root))
    for folder in (root / "recordings", root):
        files = {key: path for key, path in _named(folder)}
        if all(key in files for key in _all_keys()):
            return Recordings("folder", _fingerprint(files), partial(_parts, files))
    if (root / _ARCHIVE_NAME).is_file():
        return find_recordings(root / _ARCHIVE_NAME)
    return None


def check_archive(path: Path) -> None:
    """Check that an archive holds exactly the published recordings.

    Raises:
        DataCorruptError: the archive holds anything else.
    """
    sha = hashlib.sha256()
    for (digit, speaker, take), data in sorted(_read_archive(path).items()):
        sha.update(f"{digit}_{speaker}_{take}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    if sha.hexdigest() != _RECORDINGS_SHA256:
        raise DataCorruptError(
            f"the recordings in {path.name} differ from the published ones; try again later, or "
            "set data.root to where you have them"
        )


ARCHIVE = UnpinnedFile(
    name=_ARCHIVE_NAME,
    url=f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{_COMMIT}.tar.gz",
    max_bytes=1 << 26,
    check=check_archive,
)


def _all_keys() -> list[Key]:
    return [(d, name, take) for d in range(10) for name in SPEAKERS for take in range(N_EACH)]


def _key(name: str) -> Key | None:
    match = _MEMBER.search(name)
    return (int(match[1]), match[2], int(match[3])) if match else None


def _named(folder: Path) -> list[tuple[Key, Path]]:
    found = ((_key(path.name), path) for path in sorted(folder.glob("*.wav")))
    return [(key, path) for key, path in found if key is not None]


def _fingerprint(files: Mapping[Key, Path]) -> str:
    sha = hashlib.sha256()
    for _, path in sorted(files.items()):
        facts = path.stat()
        sha.update(f"{path.name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return sha.hexdigest()


def _parts(files: Mapping[Key, Path]) -> Mapping[Key, Source]:
    return {key: FileBytes(path) for key, path in files.items()}


def _read_archive(path: Path) -> dict[Key, bytes]:
    """Return the recordings; nothing is unpacked, so names that point elsewhere are harmless."""
    found: dict[Key, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as tar:
            for number, member in enumerate(tar):
                if number >= _MAX_MEMBERS or member.offset > _MAX_BYTES:
                    raise ValueError("it has more in it than the repository")
                key = _key(member.name)
                if key is not None and member.isfile() and member.size <= _MAX_RECORDING_BYTES:
                    data = tar.extractfile(member)
                    found[key] = b"" if data is None else data.read()
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise DataCorruptError(f"{path} cannot be read ({error}); get it again") from error
    missing = [key for key in _all_keys() if key not in found]
    if missing:
        digit, speaker, take = missing[0]
        raise DataCorruptError(
            f"{path} lacks {len(missing)} of FSDD's 3000 recordings; the first is "
            f"{digit}_{speaker}_{take}.wav; get it again"
        )
    return {key: found[key] for key in _all_keys()}
