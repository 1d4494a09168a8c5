"""User-defined data sets with classes of items, which are loaded once and stored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Protocol

import numpy as np

from metafleet.data.base import ItemDataSet
from metafleet.data.decoding.registry import get_decoder, has_decoder, import_kinds
from metafleet.data.own.checking import check_modalities
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.prepared import Array, ClassInfo, PreparedData, folder_of
from metafleet.data.prepared.preparing import Content, find_or_decode
from metafleet.data.summary import Progress, no_progress
from metafleet.episode import SPLITS
from metafleet.errors import ConfigError, DataError
from metafleet.purity.process_state import kept_as_it_is, seed_generators
from metafleet.registry import readable_errors
from metafleet.seeds import CounterRng
from metafleet.sources import imported_digest, package_of

_RECIPE_VERSION: Final = 1
_ANY_SEED: Final = 0
_TABLE: Final = "table"


class ItemClasses(Protocol):
    """Interface of a user's class, which need not inherit from this one.

    Attributes:
        Options: a frozen dataclass with the options of ``[data]`` other than "name".
        version: version of the items, which is part of the data digest. Change it when items
            change.
        modalities: modality -> shape of one item, such as ``{"image": (1, 28, 28)}``.
        kinds: modality -> kind of data, for modalities that are not named after their kind. This
            attribute is optional. The kind determines how items are drawn on a sheet, encoded by
            ``fusion`` and read from files.
    """

    Options: ClassVar[type]
    version: ClassVar[str]

    def __init__(self, options: Any) -> None: ...

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Modality -> shape of one item."""
        ...

    def classes(self, split: str) -> Sequence[str]:
        """Return the classes of "meta_train", "meta_val" or "meta_test"; splits are disjoint."""
        ...

    def load_items(self, class_name: str) -> Array | Mapping[str, Array]:
        """Return all items of a class, in a fixed order.

        Returns:
            An array [n, *shape] with n >= 1, or modality -> such an array. Its dtype is float32 or
            uint8. Pictures and clips are uint8, and models get them divided by 255.
        """
        ...


class OwnItems(ItemDataSet):
    """The data set of a user's class of items. It checks everything that the class returns.

    Args:
        name: "package.module:Class".
        own: the class.
        allowed_packages: user packages from which kinds of data may be imported.
    """

    title = "of your own"
    licence = "yours"
    origin = "yours: loaded by a class"

    def __init__(self, name: str, own: type[ItemClasses], allowed_packages: Sequence[str]) -> None:
        self.name, self._own, self.Options = name, own, own.Options
        self._allowed_packages = allowed_packages

    def prepare(self, options: Any, data_dir: Path, progress: Progress) -> PreparedData:
        """Load all items and store them, unless they are stored already."""
        recipe = {
            "recipe": _RECIPE_VERSION,
            "version": self._own.version,
            "options": asdict(options),
            "sources": imported_digest(package_of(self.name)),
        }
        folder = folder_of(data_dir, self.name.replace(":", "."), recipe)
        prepared = find_or_decode(folder, lambda scratch: self._load(options, scratch, progress))
        kinds = [info.kind for info in prepared.arrays.values()]  # models and sheets need them
        import_kinds(kinds, allowed_packages=self._allowed_packages)
        return prepared

    def open_classes(self, options: Any, data_dir: Path) -> ClassData:
        """Open the items; load them first if necessary."""
        prepared = self.prepare(options, data_dir, no_progress)
        version = self._own.version
        return ClassData(self.name, prepared, prepared.splits, tuple(prepared.arrays), version)

    def _load(self, options: Any, scratch: Path, progress: Progress) -> Content:
        what = f"data set {self.name!r}"
        with kept_as_it_is(), readable_errors(f"{what} cannot be made"):
            seed_generators(CounterRng(_ANY_SEED, "data set"))
            made = self._own(options)
            modalities, asked = made.modalities, getattr(made, "kinds", {})
            splits = {split: made.classes(split) for split in SPLITS}
        shapes = check_modalities(self.name, modalities)
        kinds = _checked_kinds(self.name, shapes, asked)
        import_kinds(kinds.values(), allowed_packages=self._allowed_packages)
        _check_classes(what, splits)
        names = [name for split in splits.values() for name in split]
        stored = {m: _Rows(scratch / f"{m}.rows", shape) for m, shape in shapes.items()}
        counts: list[int] = []
        for number, name in enumerate(names):
            progress("loading classes", number, len(names))
            where = f"{what}: class {name!r}"
            with kept_as_it_is(), readable_errors(f"{where}: load_items failed"):
                seed_generators(CounterRng(_ANY_SEED, "items", index=number))
                found = made.load_items(name)
            items = _checked_items(where, found, shapes, kinds)
            counts.append(len(next(iter(items.values()))))
            for modality, rows in stored.items():
                rows.write(where, items[modality])
        return Content(
            classes=[ClassInfo(name, "", n) for name, n in zip(names, counts, strict=True)],
            arrays={modality: rows.load() for modality, rows in stored.items()},
            present={},
            facts={"version": self._own.version},
            kinds=kinds,
            splits={split: list(found) for split, found in splits.items() if found},
        )


class _Rows:
    """The items of one modality on disk: all classes together may not fit into memory."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._path, self._shape, self._n = path, shape, 0
        self._dtype: np.dtype[Any] | None = None

    def write(self, where: str, items: Array) -> None:
        """Append items.

        Raises:
            DataError: the items have another dtype than earlier ones.
        """
        self._dtype = self._dtype or items.dtype
        if items.dtype != self._dtype:
            raise DataError(f"{where} has items {items.dtype}; expected {self._dtype}, as before")
        self._n += len(items)
        handle: BinaryIO
        with self._path.open("ab") as handle:
            handle.write(np.ascontiguousarray(items).data)

    def load(self) -> Array:
        """Memory-map all items."""
        shape = (self._n, *self._shape)
        return np.memmap(self._path, self._dtype or np.float32, mode="r", shape=shape)


def _checked_kinds(name: str, shapes: Mapping[str, tuple[int, ...]], asked: Any) -> dict[str, str]:
    """Return modality -> kind: as the class declares, or else the modality's name, or a table."""
    if not isinstance(asked, Mapping) or not set(asked) <= set(shapes):
        raise ConfigError(f"data set {name!r} has kinds={asked!r:.200}; expected modality -> kind")
    unknown = [k for k in asked.values() if not isinstance(k, str) or not has_decoder(k)]
    if unknown:
        raise ConfigError(f"data set {name!r} has kinds={asked!r:.200}; no {unknown[0]!r} is known")
    plain = {m: _TABLE if len(s) == 1 and not has_decoder(m) else m for m, s in shapes.items()}
    return plain | dict(asked)


def _check_classes(what: str, splits: Mapping[str, Any]) -> None:
    for split, names in splits.items():
        is_list = isinstance(names, list | tuple)
        if not is_list or not all(isinstance(name, str) and name for name in names):
            found = f"classes {names!r:.80} in {split}"
            raise DataError(f"{what} has {found}; expected a list of names")
    everything = Counter(name for names in splits.values() for name in names)
    twice = next((name for name, n in everything.items() if n > 1), None)
    if twice is not None:
        raise DataError(f"{what} has class {twice!r} twice; expected each in one split, once")
    if not everything:
        raise DataError(f"{what} has no classes; expected some in meta_train at least")


def _checked_items(
    where: str, found: Any, shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str]
) -> dict[str, Array]:
    if isinstance(found, np.ndarray) and len(shapes) == 1:
        found = dict.fromkeys(shapes, found)
    if not isinstance(found, Mapping) or set(found) != set(shapes):
        held = sorted(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise DataError(f"{where} has items {held}; expected an array for each of {[*shapes]}")
    for modality, shape in shapes.items():
        _check_array(f"{where} has {modality}", found[modality], shape, kinds[modality])
    if len({len(items) for items in found.values()}) > 1:
        counts = {modality: len(items) for modality, items in found.items()}
        raise DataError(f"{where} has {counts} items; expected as many of each modality")
    return dict(found)


def _check_array(what: str, items: Any, shape: tuple[int, ...], kind: str) -> None:
    is_pixels = has_decoder(kind) and get_decoder(kind).is_pixels
    types = (np.uint8,) if is_pixels else (np.float32, np.uint8)
    expected = f"{' or '.join(np.dtype(t).name for t in types)} [n, {', '.join(map(str, shape))}]"
    if not isinstance(items, np.ndarray):
        raise DataError(f"{what} of {type(items).__name__}; expected an array {expected}")
    if items.dtype not in types or items.shape[1:] != shape or len(items) < 1:
        found = f"{items.dtype} {list(items.shape)}"
        raise DataError(f"{what} {found}; expected {expected}, n of 1 or more")
    if not np.isfinite(items).all():
        raise DataError(f"{what} with values that are not finite; expected finite ones")
