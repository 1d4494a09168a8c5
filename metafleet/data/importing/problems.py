"""Problems of a folder, collected and reported together, each with its location."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from metafleet.data.decoding.registry import DECODERS

KINDS: Mapping[str, str] = MappingProxyType(
    {
        # the folder
        "no-layout": "the folder has no known layout",
        "unreadable-file": "a manifest, archive or folder cannot be opened or is damaged",
        "missing-package": "a package that this layout or suffix needs is not installed",
        # manifests
        "not-utf8": "a text, the name of a file or class, or a line of a manifest is not UTF-8",
        "bad-line": "a line is not a JSON object, or has more or fewer fields than the header",
        "duplicate-column": "two columns of a header have the same name",
        "unknown-column": "an option names a column that does not exist",
        "no-label-column": "no column contains the class",
        "no-separator": "you gave `--label-separator`, but no item has more than one label",
        "other-kind": "an option names a column that contains another kind of data",
        "no-file-column": "no column contains files, texts or numbers",
        "bad-manifest": "a JSON file does not have the content that its layout requires",
        # rows
        "empty-label": "a row has no class; or a row has several labels, one of which is empty",
        "bad-label": "the class of a row is not a text, a number or a truth value",
        "empty-item": "a row has no modality at all",
        "unknown-split": "a split is not train, val or test",
        "missing-file": "a file does not exist",
        "outside-folder": "a path leads out of the folder or out of the archive",
        "empty-file": "a file has 0 bytes",
        "unknown-type": "no decoder reads files with this suffix",
        "mixed-types": "a column, or an item of a class's folder, has files of different kinds",
        "duplicate-file": (
            "two rows name the same file, or two members of a sample have the same modality"
        ),
        "bad-number": "a cell of a table is not a number, or not finite",
        # archives
        "refused-member": "an archive contains a pickle, link or device",
        "split-sample": "the members of one sample are not next to each other",
        # content
        **{f"bad-{kind}": decoder.problem for kind, decoder in DECODERS.items()},
        "missing-modality": "an item lacks a modality that the model needs (`adapt`, `predict`)",
        # the whole
        "label-in-two-splits": "a class has rows in two splits",
        "small-class": "a class has fewer items than the option `--min-items` says (2 by default)",
        "small-split": "a split has fewer than two classes",
    }
)
"""Kind of problem -> what it means."""

SHOWN = 50
"""Number of problems that are printed; a file can hold all of them."""


@dataclass(frozen=True, slots=True)
class DataProblem:
    """One problem.

    Attributes:
        kind: one of ``KINDS``.
        where: file, row or class, such as "metadata.csv:17".
        message: what happened, what was expected, and what to do.
        is_fatal: whether the problem remains even if items are left out.
    """

    kind: str
    where: str
    message: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.kind}]"


class ProblemLog:
    """Collects problems; not thread-safe."""

    def __init__(self) -> None:
        self._problems: list[DataProblem] = []

    def __len__(self) -> int:
        return len(self._problems)

    def add(self, kind: str, where: str, message: str) -> None:
        """Record a problem that can be fixed by leaving its rows out."""
        self._problems.append(DataProblem(kind, one_line(where), one_line(message)))

    def add_fatal(self, kind: str, where: str, message: str) -> None:
        """Record a problem that leaving rows out cannot fix."""
        self._problems.append(DataProblem(kind, one_line(where), one_line(message), is_fatal=True))

    def extend(self, problems: Iterable[DataProblem]) -> None:
        """Record several problems."""
        self._problems.extend(problems)

    def all(self) -> tuple[DataProblem, ...]:
        """Return all problems, in the order in which they were recorded."""
        return tuple(self._problems)

    def fatal(self) -> tuple[DataProblem, ...]:
        """Return all problems if one of them is fatal; otherwise ()."""
        return self.all() if any(problem.is_fatal for problem in self._problems) else ()


def one_line(text: str) -> str:
    """Escape characters that a line of UTF-8 cannot show: stray bytes, line breaks, controls."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count_kinds(problems: Sequence[DataProblem]) -> str:
    """Return the number of problems of each kind: "3 missing-file, 1 empty-label"."""
    counts = Counter(problem.kind for problem in problems)
    return ", ".join(f"{n} {kind}" for kind, n in counts.most_common())


def first_lines(problems: Sequence[DataProblem], all_by: str = "") -> list[str]:
    """Return a line for each of the first ``SHOWN`` problems, and a line that counts the rest.

    Args:
        problems: the problems.
        all_by: text that says how to see all problems. The text is appended to the count.
    """
    lines = [str(problem) for problem in problems[:SHOWN]]
    n = len(problems) - SHOWN
    return lines if n <= 0 else [*lines, f"... and {n} more{all_by}"]


def counted(problems: Sequence[DataProblem]) -> str:
    """Return the number of problems and their kinds: "2 problems (1 empty-file, 1 bad-audio)"."""
    noun = "problem" if len(problems) == 1 else "problems"
    return f"{len(problems)} {noun} ({count_kinds(problems)})"
