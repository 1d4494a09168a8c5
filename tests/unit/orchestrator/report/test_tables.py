"""Tables as CSV and LaTeX."""

import csv
import io

import pytest

from metafleet.orchestrator.report.charts import thinned
from metafleet.orchestrator.report.tables import ReportTable, latex

NAMES = ("a & b", "50 %", "x_1", "$y$", "{z}", "#1", "a~b^c", "back\\slash", 'quo"te', "a,b\nc")


def _table() -> ReportTable:
    rows = tuple((name, "1 ± 2") for name in NAMES)
    return ReportTable("t", "A & B", ("name", "value"), rows, frozenset({1}), frozenset({0}))


def test_csv_gives_the_cells_back() -> None:
    rows = list(csv.reader(io.StringIO(_table().to_csv())))
    assert rows == [["name", "value"], *([name, "1 ± 2"] for name in NAMES)]


@pytest.mark.parametrize("name", NAMES)
def test_latex_has_no_bare_special_character(name: str) -> None:
    text = latex(name)
    for special in "&%$#_":
        assert text.count(special) == text.count(f"\\{special}")
    assert "~" not in text and "^" not in text


def test_latex_is_a_table() -> None:
    text = _table().to_latex()
    assert r"\begin{tabular}{lr}" in text and r"\textbf{a \& b} & \textbf{1 $\pm$ 2} \\" in text


def test_a_long_curve_is_thinned_to_means() -> None:
    places, means = thinned([float(i) for i in range(1000)], 10)
    assert means == [i * 100 + 49.5 for i in range(10)]
    assert places == [i * 100 + 50.5 for i in range(10)]
    assert thinned([]) == ([], []) and thinned([3.0]) == ([1.0], [3.0])
