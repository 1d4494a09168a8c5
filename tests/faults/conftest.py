"""The failure matrix: the common start of every row."""

from collections.abc import Callable, Iterator

import pytest

from metafleet.contracts.settings import Settings
from tests.fault_table import PROPERTY
from tests.running import EXPERIMENT, ROWS
from tests.runs import undisturbed


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sha256 of the undisturbed run."""
    home = tmp_path_factory.mktemp("expected")
    return undisturbed(Settings.load({"METAFLEET_HOME": str(home)}), EXPERIMENT)


@pytest.fixture(autouse=True)
def rows_are_recorded(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Hand what a test saw to the table at the end."""
    yield
    while ROWS:
        record_property(PROPERTY, str(ROWS.pop(0)))
