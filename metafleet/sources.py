"""Digests of code outside Metafleet: packages of the user, and the libraries that they use.

A package's digest covers its sources, compiled extensions and tensors. A package may be a folder, a
single file, a zip file, or a namespace package of several folders. Links are followed. The digest
does not cover byte code, texts and other data, because a run may write such files next to its code.
The digest is computed once per process, when the package is imported. Later changes on disk do not
affect the code that this process runs.
"""

import functools
import hashlib
import importlib.util
import os
import re
import sys
import zipfile
import zipimport
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

_COVERED: Final = frozenset(
    {".py", ".so", ".pyd", ".dylib", ".dll"}
    | {".pt", ".pth", ".safetensors", ".npy", ".npz", ".onnx"}
)
_IMPORTED: Final = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_ARITHMETIC: Final = ("numpy", "scipy")
"""Libraries that do the arithmetic for others, such as scikit-learn."""

_ELSEWHERE: Final = ("metafleet", "torch")
"""Distributions that a fingerprint includes anyway."""

_CHUNK_BYTES: Final = 1 << 20
_DIGITS: Final = 16

STALE: Final = "was changed on disk after this process imported it: restart this process"
"""Message for a package whose two digests differ."""

_imported: dict[str, str] = {}
"""Package -> digest at the time this process imported it."""


def note_import(package: str) -> None:
    """Record the digest of a top-level package before it is imported for the first time."""
    if package not in sys.modules:
        _imported.pop(package, None)
    imported_digest(package)


def package_of(name: str) -> str:
    """Return the top-level package of a class named "package.module:Class"."""
    return name.partition(":")[0].partition(".")[0]


def imported_digest(package: str) -> str:
    """Return the digest of a package as this process imported it, in 16 hexadecimal digits.

    If there is no such package, the result is "absent". If the package has no files, the result is
    "built in".
    """
    if package not in _imported:
        _imported[package] = disk_digest(package)
    return _imported[package]


def disk_digest(package: str) -> str:
    """Return the digest of a package as it is on disk now."""
    sha = hashlib.sha256()
    spec = _find_spec(package)
    if spec is None:
        return "absent"
    n_files = 0
    for name, chunks in _files_of(spec):
        n_files += 1
        sha.update(name.encode(errors="surrogateescape") + b"\0")
        own = hashlib.sha256()
        for chunk in chunks:
            own.update(chunk)
        sha.update(own.digest())
    return sha.hexdigest()[:_DIGITS] if n_files else "built in"


def folder_digest(folder: Path, *, without: Collection[str] = ()) -> str:
    """Return the digest of the Python sources in a folder. It does not depend on the folder's path.

    Args:
        folder: the folder, in which links are followed.
        without: names of subfolders to leave out.
    """
    sha = hashlib.sha256()
    for name, path in sorted(_walk(folder)):
        if name.endswith(".py") and name.partition("/")[0] not in without:
            sha.update(name.encode() + b"\0")
            sha.update(path.read_bytes() + b"\0")
    return sha.hexdigest()


def libraries_of(package: str) -> dict[str, str]:
    """Return the libraries that a package's sources import: distribution -> version.

    The result contains only libraries that this process has already loaded. It also contains numpy
    and scipy if one of these libraries requires them. It does not contain torch and Metafleet,
    because a fingerprint includes them anyway. A module may not be installed as a distribution, for
    example a helper package on PYTHONPATH. The version of such a module is its digest.
    """
    return versions_of(name for name in _imported_by(package) if name in sys.modules)


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Return distribution -> version of top-level modules, and of their numpy and scipy."""
    return {name: version for module in modules for name, version in _versions(module)}


@functools.cache
def _imported_by(package: str) -> tuple[str, ...]:
    """Return the top-level modules that a package's sources import, sorted."""
    spec = _find_spec(package)
    names: set[str] = set()
    for name, chunks in _files_of(spec) if spec is not None else ():
        if name.endswith(".py"):
            names.update(found.decode() for found in _IMPORTED.findall(b"".join(chunks)))
    return tuple(sorted(names - {package} - sys.stdlib_module_names))


@functools.cache
def _versions(module: str) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    distributions = _distributions().get(module, [])
    for distribution in distributions:
        if distribution not in _ELSEWHERE:
            found.append((distribution, metadata.version(distribution)))
            required = metadata.requires(distribution) or ()
            found += _installed(name for name in _ARITHMETIC if _names(required, name))
    if not distributions and _find_spec(module) is not None:
        found.append((module, imported_digest(module)))
    return tuple(found)


def _names(requirements: Iterable[str], name: str) -> bool:
    return any(re.match(rf"{name}\b", text) and "extra ==" not in text for text in requirements)


def _installed(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


@functools.cache
def _distributions() -> dict[str, list[str]]:
    found = metadata.packages_distributions()
    return {module: sorted(set(names)) for module, names in found.items()}


def _find_spec(package: str) -> ModuleSpec | None:
    """Return the spec of a top-level package without importing it."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return None


def _files_of(spec: ModuleSpec) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the covered files of a package, by their names in it, in a fixed order."""
    if isinstance(spec.loader, zipimport.zipimporter):
        yield from _zipped(spec.loader, spec.name)
    elif spec.submodule_search_locations is not None:
        found: dict[str, Path] = {}
        for place in spec.submodule_search_locations:
            for name, path in _walk(Path(place)):
                found.setdefault(name, path)
        for name in sorted(found):
            yield name, _read(found[name])
    elif spec.has_location and spec.origin is not None:
        yield Path(spec.origin).name, _read(Path(spec.origin))


def _zipped(loader: zipimport.zipimporter, package: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    inside = f"{loader.prefix}{package}".replace(os.sep, "/")
    with zipfile.ZipFile(loader.archive) as archive:
        for name in sorted(archive.namelist()):
            is_own = name.startswith(f"{inside}/") or name == f"{inside}.py"
            if is_own and Path(name).suffix in _COVERED:
                own_name = name.removeprefix(f"{inside}/").removeprefix(loader.prefix)
                yield own_name, [archive.read(name)]


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the covered files under a folder; follow links, but never in a cycle."""
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(n for n in subfolders if n != "__pycache__" and n[0] != ".")
        for file in files:
            path = Path(folder, file)
            if path.suffix in _COVERED and path.is_file():
                yield path.relative_to(root).as_posix(), path


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
