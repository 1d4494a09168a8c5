"""How figures are written."""

import math

import pytest

from metafleet.orchestrator.reporting.figures import duration, percent, plus_minus, sparkline


def test_shares_are_percent_with_their_interval() -> None:
    assert percent(0.98125, 0.0031) == "98.12 ± 0.31 %"
    assert percent(0.2) == "20.00 %"
    assert percent(None) == "-"
    assert plus_minus(0.5, 0.01) == "0.5000 ± 0.0100"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (187, "3 min 07 s"), (7500, "2 h 05 min")]
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_sparkline_rises_with_its_values_and_skips_what_is_not_finite() -> None:
    assert sparkline([0.0, 1.0, math.nan, 2.0, math.inf]) == "▁▅█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([math.nan]) == ""


def test_a_long_sparkline_is_averaged_to_its_width() -> None:
    line = sparkline([float(i) for i in range(1000)], width=10)

    assert len(line) == 10
    assert line[0] == "▁" and line[-1] == "█"
    assert list(line) == sorted(line)
