"""The failure matrix: what every row starts from, and the table at the end."""

import pytest

from contracts.settings import Settings
from tests.faults.running import EXPERIMENT, ROWS
from tests.runs import undisturbed


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of the undisturbed run."""
    home = tmp_path_factory.mktemp("expected")
    return undisturbed(Settings.load({"METAFLEET_HOME": str(home)}), EXPERIMENT)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line a row."""
    if ROWS:
        terminalreporter.section("failure matrix: broken, happened, recovered, bits")
        for row in ROWS:
            terminalreporter.write_line(str(row))
