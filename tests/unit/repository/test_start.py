"""Commands that only read records start quickly: they import no part of the learning core."""

import subprocess
import sys
from pathlib import Path

import pytest

from metafleet.db.engine import Database
from tests.databases import add_run

SLOW = {"alembic", "celery", "kombu", "matplotlib", "numpy", "psutil", "pydantic", "redis", "torch"}
RUN = """
import sys
from metafleet.orchestrator.cli.main import main

status = main({arguments!r})
print(status, sorted({slow!r} & set(sys.modules)))
"""


def imported_by(*arguments: str, home: Path, slow: set[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(arguments=arguments, slow=slow)],
        env={"METAFLEET_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return (done.stdout.splitlines() or [done.stderr])[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("runs", "--help"),
        ("runs", "list"),
        ("runs", "list", "--json"),
        ("runs", "show", "latest"),
        ("runs", "cancel", "latest"),
    ],
    ids=" ".join,
)
def test_a_command_that_reads_records_imports_nothing_slow(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    with Database.open(f"sqlite:///{tmp_path}/metafleet.db") as database:
        add_run(database)

    assert imported_by(*arguments, home=tmp_path, slow=SLOW) == "0 []"


def test_a_comparison_imports_numpy_at_most(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path}/metafleet.db") as database:
        add_run(database), add_run(database, name="other")

    arguments = ("runs", "compare", "1", "2")  # without results: exit 1
    assert imported_by(*arguments, home=tmp_path, slow=SLOW) == "1 ['numpy']"


def test_the_list_of_workers_imports_no_learning_core(tmp_path: Path) -> None:
    slow = SLOW - {"pydantic", "redis", "psutil"}  # redis imports OpenTelemetry's SDK, if installed

    assert imported_by("workers", home=tmp_path, slow=slow) == "1 []"  # no Redis is configured
