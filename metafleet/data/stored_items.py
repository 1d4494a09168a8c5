"""The stored items of a data set, by their rows, in forms that a page can show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from metafleet.data.decoding.registry import get_decoder, has_decoder
from metafleet.data.decoding.shown import Shown
from metafleet.data.mixture import Mixture
from metafleet.data.prepared.class_data import ClassData
from metafleet.data.prepared.decoder_values import decoder_values
from metafleet.data.prepared.prepared import Array, PreparedData
from metafleet.data.registry import open_data
from metafleet.data.sheet.sheet_fonts import SheetFonts
from metafleet.encoders.choice import PLAIN
from metafleet.errors import ConfigError, DataError

ONLY_FEATURES: Final = "only the features of a pretrained encoder are stored"


class StoredItems:
    """The items of one data set.

    Args:
        data: the data that episodes are drawn from.
        decoded: the same items before a pretrained encoder read them; None if they are not stored.
        names: a modality's name in the data set -> its name in the mixture.
    """

    def __init__(
        self, data: ClassData, decoded: PreparedData | None, names: Mapping[str, str]
    ) -> None:
        self._data, self._decoded, self._names = data, decoded, names
        self._fonts = SheetFonts()
        self._arrays: dict[str, Array] = {}

    @property
    def modalities(self) -> dict[str, str]:
        """Name in the episodes -> name in the data set."""
        return {self._names.get(name, name): name for name in self._data.modalities}

    def stored_rows(self, rows: Sequence[int]) -> list[int]:
        """Return rows in the stored arrays, given rows of the episode source."""
        return self._data.stored_rows(rows)

    def show(self, modality: str, row: int) -> Shown:
        """Return the item in a stored row.

        Args:
            modality: the modality's name in the data set.
            row: the row in the stored arrays.

        Raises:
            DataError: only features are stored, or the item cannot be shown.
        """
        found = self._data.prepared
        if found.arrays[modality].encoder:
            if self._decoded is None:
                raise DataError(ONLY_FEATURES)
            found = self._decoded
        kind = found.arrays[modality].kind
        if not has_decoder(kind):
            raise DataError(f"items of {kind!r} are of no kind that can be shown")
        if modality not in self._arrays:  # opening a file takes longer than showing an item
            self._arrays[modality] = found.load(modality)
        item = self._arrays[modality][row]
        return get_decoder(kind).show(item, decoder_values(found, modality), self._fonts)


@dataclass(frozen=True, slots=True)
class ItemsOfParts:
    """The stored items of a data set, or of the parts of a mixture.

    Attributes:
        parts: label of the part -> its items; the label of a data set that is no mixture is "".
    """

    parts: Mapping[str, StoredItems]


def open_items(
    options: Mapping[str, Any], data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> ItemsOfParts:
    """Open the items of a data set. Computed data have none.

    Raises:
        ConfigError, DataError: for the same reasons as ``open_source``.
    """
    bound = open_data(options, data_dir, allowed_packages=allowed_packages)
    tables: list[tuple[str, Mapping[str, str], Mapping[str, Any]]] = [("", {}, options)]
    if isinstance(bound.dataset, Mixture):
        tables = list(bound.dataset.parts(bound.options))
    found = {}
    for label, names, own in tables:
        data = open_data(own, data_dir, allowed_packages=allowed_packages).open_classes()
        if data is not None:
            decoded = _find_decoded(own, data, data_dir, allowed_packages)
            found[label] = StoredItems(data, decoded, names)
    return ItemsOfParts(found)


def _find_decoded(
    options: Mapping[str, Any], data: ClassData, data_dir: Path, allowed_packages: Sequence[str]
) -> PreparedData | None:
    """Return data with the same items in the same rows, without a pretrained encoder.

    They exist if the same data set was also prepared without an encoder. Nothing is prepared here.
    """
    encoded = {m for m in data.modalities if data.prepared.arrays[m].encoder}
    if not encoded:
        return None
    plain = {
        key: {k: v for k, v in table.items() if k not in PLAIN}
        if isinstance(table, Mapping)
        else table
        for key, table in options.items()
        if key != "class_text"
    }
    try:
        bound = open_data(plain, data_dir, allowed_packages=allowed_packages)
        found = bound.dataset.find_prepared(bound.options, data_dir)
    except (ConfigError, DataError):  # options that only make sense with an encoder
        return None
    if found is None or found.classes != data.prepared.classes:
        return None
    arrays = found.arrays
    is_same = all(
        m in arrays
        and not arrays[m].encoder
        and arrays[m].n_present == data.prepared.arrays[m].n_present
        for m in encoded
    )
    return found if is_same else None
