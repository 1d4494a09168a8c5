"""Several data sets in one run; see ``metafleet.episodes.mixture``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metafleet.data.base import DataSet
from metafleet.data.summary import DataSummary, ModalitySummary, Progress, SplitSummary
from metafleet.digests import json_sha256
from metafleet.episode import is_modality_name
from metafleet.episodes.mixture import MixturePart, MixtureSource
from metafleet.errors import ConfigError, MetafleetError
from metafleet.options import require

_OWN_KEYS = ("part", "weight", "rename")
Resolve = Callable[[Mapping[str, Any]], tuple[DataSet, Any]]


@dataclass(frozen=True, slots=True)
class MixtureOptions:
    """Options of ``Mixture``.

    Attributes:
        parts: one table per data set. A table contains the name and options of its data set, and up
            to three further keys. "part" is the data set's name in the mixture. "weight" is the
            number of consecutive episodes that the part supplies in each of its turns. "rename" is
            a table from modality to its name in the mixture.
    """

    parts: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for table in self.parts:
            require(isinstance(table.get("name"), str), "parts", dict(table), "a name in each")
            require(table["name"] != Mixture.name, "parts", dict(table), "no mixture in a mixture")
            weight, names = table.get("weight", 1), table.get("rename", {})
            is_count = isinstance(weight, int) and not isinstance(weight, bool) and weight >= 1
            require(is_count, "weight", weight, "a whole number, 1 or more")
            is_table = isinstance(names, Mapping) and all(
                isinstance(name, str) and is_modality_name(name) for name in names.values()
            )
            require(is_table, "rename", names, "a table of modality to another name")
            name = table.get("part", table["name"])
            require(isinstance(name, str) and name != "", "part", name, "a name for the part")
        names = [_name(table) for table in self.parts]
        expected = 'a name of its own for each; add part = "..." to one'
        require(len(set(names)) == len(names), "parts", names, expected)


class Mixture(DataSet):
    """A data set composed of other data sets.

    Args:
        resolve: a function from the options of a part to its data set and checked options.
    """

    name = "mixture"
    title = "episodes of several data sets in one run, some images, some sounds, some texts"
    licence = "those of its parts"
    origin = "those of its parts"
    Options = MixtureOptions

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def check_place(self, options: MixtureOptions) -> None:
        """Check that the paths of all parts have the data."""
        for _, dataset, own in self._each(options):
            dataset.check_place(own)

    def is_ready(self, options: MixtureOptions, data_dir: Path) -> bool:
        """Return whether all parts can be opened without downloading anything."""
        if not options.parts:
            return False
        return all(dataset.is_ready(own, data_dir) for _, dataset, own in self._each(options))

    def prepare(self, options: MixtureOptions, data_dir: Path, progress: Progress) -> None:
        """Download and prepare the missing data of all parts."""
        for _, dataset, own in self._each(options):
            dataset.prepare(own, data_dir, progress)

    def open_source(self, options: MixtureOptions, data_dir: Path) -> MixtureSource:
        """Open all parts for sampling.

        Raises:
            ConfigError: the parts cannot be combined.
            DataMissingError, DataCorruptError: the data of a part are missing or damaged.
        """
        parts = []
        for table, dataset, own in self._each(options):
            source = dataset.open_source(own, data_dir)
            names = table.get("rename", {})
            for modality in names:
                if modality not in source.modalities:
                    known = ", ".join(map(repr, source.modalities))
                    raise ConfigError(
                        f"part {_name(table)!r}: rename holds {modality!r}; the part has {known}"
                    )
            parts.append(MixturePart(_name(table), source, table.get("weight", 1), names))
        return MixtureSource(parts)

    def digest(self, options: MixtureOptions, data_dir: Path) -> str:
        """Return a hash of the parts' digests, names, weights and renamed modalities."""
        facts = [
            {
                "label": _name(table),  # recorded digests depend on this key
                "weight": table.get("weight", 1),
                "rename": table.get("rename", {}),
                "digest": dataset.digest(own, data_dir),
            }
            for table, dataset, own in self._each(options)
        ]
        return json_sha256(facts)

    def summarise(self, options: MixtureOptions, data_dir: Path) -> DataSummary:
        """Return a summary of all parts; splits and modalities are prefixed by their part."""
        modalities: dict[str, ModalitySummary] = {}
        splits: dict[str, SplitSummary] = {}
        facts: dict[str, str] = {}
        for table, dataset, own in self._each(options):
            part, summary = _name(table), dataset.summarise(own, data_dir)
            modalities |= {f"{part}.{name}": m for name, m in summary.modalities.items()}
            splits |= {f"{part}.{split}": s for split, s in summary.splits.items()}
            facts[part] = f"{dataset.name}, weight {table.get('weight', 1)}, {summary.licence}"
        return DataSummary(
            name=self.name,
            digest=self.digest(options, data_dir),
            licence=self.licence,
            origin=self.origin,
            splits=splits,
            modalities=modalities,
            facts=facts,
        )

    def parts(
        self, options: MixtureOptions
    ) -> Iterator[tuple[str, Mapping[str, str], dict[str, Any]]]:
        """Yield each part's name, its renamed modalities, and its data set's name and options."""
        for table in options.parts:
            yield _name(table), table.get("rename", {}), _own(table)

    def _each(self, options: MixtureOptions) -> Iterator[tuple[Mapping[str, Any], DataSet, Any]]:
        """Yield the table, data set and checked options of each part, in order.

        Raises:
            ConfigError: there are no parts, or a part's name or options are wrong; the message
                names the part.
        """
        require(len(options.parts) > 0, "parts", [], "a table [[data.parts]] for each data set")
        for table in options.parts:
            try:
                self._refuse_label(table)
                dataset, parsed = self._resolve(_own(table))
            except MetafleetError as error:
                raise ConfigError(f"part {_name(table)!r}: {error}") from error
            yield table, dataset, parsed

    def _refuse_label(self, table: Mapping[str, Any]) -> None:
        """Refuse ``label`` if it is not an option of the part's data set; suggest ``part``."""
        if "label" not in table:
            return
        without = {key: value for key, value in _own(table).items() if key != "label"}
        dataset, parsed = self._resolve(without)
        if not hasattr(parsed, "label"):
            raise ConfigError(
                f"label={table['label']!r}, but data set {dataset.name!r} has no such option; "
                f'to name the part, write part = "{table["label"]}"'
            )


def _own(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in _OWN_KEYS}


def _name(table: Mapping[str, Any]) -> str:
    return str(table.get("part", table["name"]))
