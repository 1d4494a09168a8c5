"""`metafleet data prepare --fleet`, as a user sees it."""

from pathlib import Path

from metafleet.contracts.settings import child_environment
from tests.encoded import ENCODER, write_texts
from tests.fleet import Fleet
from tests.integration.orchestrator.cli.terminal import Terminal


def test_a_folder_is_encoded_by_workers_and_then_needs_none(
    terminal: Terminal, standing_fleet: Fleet, tmp_path: Path
) -> None:
    folder = write_texts(tmp_path / "texts")
    own = {"METAFLEET_HOME": str(terminal.home), "METAFLEET_DATA_DIR": str(terminal.home / "data")}
    command = ("prepare", str(folder), "--set", f"text.encoder={ENCODER}", "--fleet")

    refused = terminal.fails("data", *command)
    terminal.environment = child_environment(standing_fleet.settings) | own
    first = terminal.run("data", *command)
    again = terminal.run("data", *command)
    imported = terminal.run(
        "data", "import", str(folder), "--set", f"text.encoder={ENCODER}", "--fleet"
    )

    assert "no Redis is configured" in refused
    assert first.returncode == again.returncode == imported.returncode == 0, first.stderr
    assert "72 items encoded by " in first.stderr and "MB received" in first.stderr
    assert first.stdout == again.stdout and "is ready" in first.stdout
    assert again.stderr == imported.stderr and "no item had to be encoded" in again.stderr
