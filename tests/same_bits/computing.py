"""Run the cases on a tree of sources: this checkout, or another commit's."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.folders import write
from tests.same_bits.cases import CASES, FOLDER, files

# All runs in one process, for importing torch takes longer than a run. It knows no more of the tree
# than the command line, so that it also serves a commit whose modules have other names.
_CHILD = """
import contextlib, importlib, io, json, sys
for name in ("metafleet.orchestrator.cli.main", "orchestrator.cli.main"):
    with contextlib.suppress(ModuleNotFoundError):
        main = importlib.import_module(name).main
        break
for arguments in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(arguments)
    if status:
        sys.exit(f"metafleet {' '.join(arguments)} ended with {status}")
    print(json.dumps({"out": json.loads(out.getvalue())}), flush=True)
"""


def run_commands(tree: Path, home: Path, commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Run ``metafleet`` commands on the sources in ``tree``; return what each prints as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "METAFLEET_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps(commands),
        env=environment,
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{done.returncode}: {done.stderr[-3000:]}")
    return [json.loads(line)["out"] for line in done.stdout.splitlines()]


def import_folder(tree: Path, home: Path) -> None:
    """Import the folder that cases use."""
    folder = write(home / FOLDER, files())
    arguments = ["data", "import", str(folder), "--name", FOLDER, "--json"]
    run_commands(tree, home, [[*arguments, "--set=table.width=3", "--set=image.side=28"]])


def compute(tree: Path, home: Path) -> dict[str, Any]:
    """Run every case in one process; return each one's bits and metrics, and the fingerprint."""
    import_folder(tree, home)
    reports = run_commands(tree, home, [[*case.arguments(), "--in-process"] for case in CASES])
    shown = run_commands(tree, home, [["runs", "show", str(reports[0]["run_id"]), "--json"]])[0]
    return {
        "fingerprint": arithmetic(shown["fingerprint"]),
        "runs": {case.name: result(report) for case, report in zip(CASES, reports, strict=True)},
    }


def arithmetic(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """Return what a fingerprint says of the machine: all but our own sources."""
    return {key: fingerprint[key] for key in ("torch", "cpu", "probe", "threads")}


def result(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the final state's sha256, and loss and accuracy on the test episodes."""
    trained = next(e for e in report["evaluations"] if e["split"] == "meta_test")
    return {
        "sha256": report["checkpoint_sha256"],
        "loss": trained["loss"],
        "accuracy": trained["accuracy"],
    }
