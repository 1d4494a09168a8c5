"""Options of the data set ``folder``: how to read a folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from metafleet.data.decoding.registry import DECODERS, is_own
from metafleet.encoders.class_texts import NO_CLASS_TEXTS, ClassTexts
from metafleet.episode import CLASS_TEXT
from metafleet.options import TABLES, require
from metafleet.seeds import MAX_SEED

_MODALITY = re.compile(r"[a-z][a-z0-9_]{0,39}")

Layout = Literal[
    "auto",
    "huggingface",
    "class_folders",
    "split_folders",
    "manifest",
    "libfewshot",
    "easy_few_shot",
    "webdataset",
    "omniglot",
    "torchmeta",
]


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Options of ``Folder`` that determine its prepared data.

    Attributes:
        path: path of the folder, or of one manifest, archive or JSON file in it. It must be
            absolute or start with the home folder, "~", because workers have other working
            directories.
        imported: name of an import by `metafleet data import`. It replaces ``path`` and the options
            for reading. A run records the name and also the path and options of the import. A host
            that has an import of this name uses the import; other hosts use the path and options.
        layout: the layout of the folder; "auto" detects it from the contents.
        label: column that holds the class; "" finds ``label``, ``class`` and similar names.
        label_separator: text between the labels of an item that may have several, such as ";"; ""
            if an item has one class.
        columns: modality -> its column, or several numeric columns joined by commas. If the mapping
            is empty, two kinds of columns are used: columns that hold files, and columns of texts
            whose name is ``text`` or similar.
        kinds: one table per user-defined kind of data. Each table has "name", the class as
            "package.module:Class", and the decoder's options.
        modalities: the modalities of the episodes, in this order; empty for all.
        split: how classes are assigned to splits. "given" uses folders, files or a column; "hashed"
            uses a hash of the class name; "auto" uses the given splits, or the hash if none are
            given.
        split_column: column that holds the split; "" finds ``split``, ``subset`` or ``partition``.
        split_seed: seed of the hash, >= 0.
        split_fractions: shares of the hashed classes for meta_train, meta_val and meta_test. They
            sum to 1; the share of meta_val may be 0.
        min_items: minimum number of items per class, >= 1.
        skip_bad: whether to leave out broken items. If False, a folder with any problem is refused.
        class_text: encoder and prompts for the names of classes, for episodes with
            ``episodes.class_text``. If there is no encoder, these episodes contain the names as
            bytes.
        decoders: built-in kind -> options of its decoder. In a configuration, each kind is a
            separate option, such as ``image``; see docs/reference/folders.md.
    """

    path: str = ""
    imported: str = ""
    layout: Layout = "auto"
    label: str = ""
    label_separator: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[Mapping[str, Any], ...] = ()
    modalities: tuple[str, ...] = ()
    split: Literal["auto", "given", "hashed"] = "auto"
    split_column: str = ""
    split_seed: int = 0
    split_fractions: tuple[float, ...] = (0.6, 0.2, 0.2)
    min_items: int = 2
    skip_bad: bool = False
    class_text: ClassTexts = NO_CLASS_TEXTS
    decoders: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict, metadata={TABLES: tuple(DECODERS)}
    )

    def __post_init__(self) -> None:
        is_absolute = self.path == "" or Path(self.path).expanduser().is_absolute()
        require(is_absolute, "path", self.path, "an absolute path, or one from ~")
        separator = self.label_separator
        is_short = len(separator) <= 8 and separator.isprintable()
        is_apart = is_short and not any(character.isalnum() for character in separator)
        expected = 'up to 8 characters that are no letters or digits, such as ";"'
        require(is_apart, "label_separator", separator, expected)
        names = self.class_text
        is_read = names.encoder != "" or names == NO_CLASS_TEXTS
        require(is_read, "class_text.prompts", list(names.prompts), "an encoder to go with them")
        is_single = not (separator and names.encoder)
        require(is_single, "label_separator", separator, '"" with class_text.encoder')
        is_distinct = len(set(self.modalities)) == len(self.modalities)
        require(is_distinct, "modalities", list(self.modalities), "different modalities")
        for name, column in self.columns.items():
            is_name = _MODALITY.fullmatch(name) is not None
            require(is_name, "columns", name, "names of small letters, digits and _")
            is_free = name != CLASS_TEXT
            require(is_free, "columns", name, "another name: this one is that of class names")
            require(isinstance(column, str) and column != "", "columns", column, "names of columns")
        named = self.own_kinds
        are_classes = all(isinstance(name, str) and is_own(name) for name in named)
        is_once = are_classes and len(set(named)) == len(named)
        classes = 'tables, each with a name of its own, as "package.module:Class"'
        require(is_once, "kinds", list(map(dict, self.kinds)), classes)
        seeds = "0 to 2**64 - 1"
        require(0 <= self.split_seed <= MAX_SEED, "split_seed", self.split_seed, seeds)
        shares = self.split_fractions
        are_shares = len(shares) == 3 and min(shares) >= 0.0 and abs(sum(shares) - 1.0) < 1e-6
        are_used = are_shares and shares[0] > 0.0 and shares[2] > 0.0
        expected = "three shares of sum 1, the first and the last more than 0"
        require(are_used, "split_fractions", list(shares), expected)
        require(self.min_items >= 1, "min_items", self.min_items, "1 or more")

    def of_kind(self, kind: str) -> Mapping[str, Any]:
        """Return the options given for a kind's decoder."""
        if is_own(kind):
            return next(table for table in self.kinds if table["name"] == kind)
        return self.decoders.get(kind, {})

    @property
    def own_kinds(self) -> tuple[str, ...]:
        """User-defined kinds."""
        return tuple(table.get("name", "") for table in self.kinds)
