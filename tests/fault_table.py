"""Prints the observed failure matrix, one line per row, at the end of a test session."""

import pytest

PROPERTY = "failure matrix"
"""Under which a test's report carries its rows, from another process, too."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the rows that tests recorded."""
    rows = [
        row
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, row in report.user_properties
        if name == PROPERTY
    ]
    if rows:
        terminalreporter.section("failure matrix: broken, happened, recovered, bits")
        for row in rows:
            terminalreporter.write_line(str(row))
