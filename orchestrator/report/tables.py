"""Tables of a report, as CSV and LaTeX; the page shows them as HTML."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": r"$-$",
}


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table.

    Attributes:
        name: name of its files, such as "results".
        caption: what the table shows, in one sentence.
        columns: the headings.
        rows: the cells, texts.
        right: positions of the columns that are aligned to the right.
        bold: positions of rows that are emphasised.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    bold: frozenset[int] = frozenset()

    def to_csv(self) -> str:
        """Return the table as CSV, with a line of headings."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return file.getvalue()

    def to_latex(self) -> str:
        """Return the table as LaTeX; it needs the package booktabs."""
        places = "".join("r" if i in self.right else "l" for i in range(len(self.columns)))
        rows = [
            _line([rf"\textbf{{{latex(cell)}}}" if i in self.bold else latex(cell) for cell in row])
            for i, row in enumerate(self.rows)
        ]
        return "\n".join(
            [
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{latex(self.caption)}}}",
                rf"  \label{{tab:{self.name}}}",
                rf"  \begin{{tabular}}{{{places}}}",
                r"    \toprule",
                f"    {_line([latex(column) for column in self.columns])}",
                r"    \midrule",
                *(f"    {row}" for row in rows),
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def latex(text: str) -> str:
    """Escape a text for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
