"""What is wrong with a folder: everything at once, each with its place."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from metafleet.data.decoding.registry import DECODERS

KINDS: Mapping[str, str] = MappingProxyType(
    {
        # the folder
        "no-layout": "nothing in the folder looks like examples",
        "unreadable-file": "a manifest, archive or folder cannot be opened or is damaged",
        "missing-package": "a package that this layout or suffix needs is not installed",
        # manifests
        "not-utf8": "a text, a name or a manifest's line is not UTF-8",
        "bad-line": "a line is no JSON object, or has more or fewer fields than the header",
        "duplicate-column": "two columns of a header have one name",
        "unknown-column": "an option names a column that is not there",
        "no-label-column": "no column says the class",
        "other-kind": "an option asks for one kind of data, and its column holds another",
        "no-file-column": "no column holds files, texts or numbers",
        "bad-manifest": "a JSON file does not hold what its layout asks for",
        # rows
        "empty-label": "a row without a class",
        "bad-label": "a class that is no text, number or truth value",
        "empty-item": "a row that has no modality at all",
        "unknown-split": "a split other than train, val and test",
        "missing-file": "a file that is not there",
        "outside-folder": "a path or member that leads out of the folder",
        "empty-file": "a file of 0 bytes",
        "unknown-type": "a suffix that no decoder reads",
        "mixed-types": "a column, or an item of a class's folder, with files of another kind",
        "duplicate-file": "one file in two rows, or two members of a sample for one place",
        "bad-number": "a number of a table that is none, or not finite",
        # archives
        "refused-member": "a pickle, link or device in an archive",
        "split-sample": "members of one sample that are not side by side",
        # content
        **{f"bad-{kind}": decoder.problem for kind, decoder in DECODERS.items()},
        "missing-modality": "an item without what a model needs, in `adapt` and `predict`",
        # the whole
        "label-in-two-splits": "a class with rows in two splits",
        "small-class": "a class with fewer than min_items items",
        "small-split": "a split with fewer than two classes",
    }
)
"""Kind of problem -> what it means."""

SHOWN = 50
"""Problems that are printed; a file takes all."""


@dataclass(frozen=True, slots=True)
class DataProblem:
    """One thing that is wrong.

    Attributes:
        kind: of ``KINDS``.
        where: file, row or class: "metadata.csv:17".
        message: what happened; what was expected; what to do.
        is_fatal: nothing can be left out to mend it.
    """

    kind: str
    where: str
    message: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.kind}]"


class ProblemLog:
    """Collects problems; not shared between threads."""

    def __init__(self) -> None:
        self._problems: list[DataProblem] = []

    def __len__(self) -> int:
        return len(self._problems)

    def add(self, kind: str, where: str, message: str) -> None:
        """Note a problem that leaving its rows out mends."""
        self._problems.append(DataProblem(kind, one_line(where), one_line(message)))

    def add_fatal(self, kind: str, where: str, message: str) -> None:
        """Note a problem that cannot be left out."""
        self._problems.append(DataProblem(kind, one_line(where), one_line(message), is_fatal=True))

    def extend(self, problems: Iterable[DataProblem]) -> None:
        """Note several."""
        self._problems.extend(problems)

    def all(self) -> tuple[DataProblem, ...]:
        """Return all, in the order in which they were noted."""
        return tuple(self._problems)

    def fatal(self) -> tuple[DataProblem, ...]:
        """Return all, if one of them cannot be left out; else nothing."""
        return self.all() if any(problem.is_fatal for problem in self._problems) else ()


def one_line(text: str) -> str:
    """Write out what no line of UTF-8 can show: bytes of a file's name, line breaks, controls."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count_kinds(problems: Sequence[DataProblem]) -> str:
    """Say how many there are of each kind: "3 missing-file, 1 empty-label"."""
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{n} {kind}" for kind, n in counts.most_common())


def first_lines(problems: Sequence[DataProblem], all_by: str = "") -> list[str]:
    """Return a line for each of the first ``SHOWN``, and one that counts the rest.

    Args:
        problems: what is wrong.
        all_by: what gives all, to follow the count.
    """
    lines = [str(problem) for problem in problems[:SHOWN]]
    n = len(problems) - SHOWN
    return lines if n <= 0 else [*lines, f"... and {n} more{all_by}"]


def counted(problems: Sequence[DataProblem]) -> str:
    """Say how many there are, and of which kinds: "2 problems (1 empty-file, 1 bad-audio)"."""
    noun = "problem" if len(problems) == 1 else "problems"
    return f"{len(problems)} {noun} ({count_kinds(problems)})"
