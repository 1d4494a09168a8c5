"""The rows of the ledger, joined over seeds, for the page of results."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from metafleet.experiments import FOLDER as EXPERIMENTS
from metafleet.orchestrator.ledger.preparing import option_text, prepare_command
from metafleet.orchestrator.ledger.row import LedgerRow, Metric
from metafleet.orchestrator.records.difference import difference, shipped_config
from metafleet.orchestrator.records.intervals import Mean
from metafleet.orchestrator.reporting.figures import duration
from metafleet.splits import META_TEST
from tests.paths import REPOSITORY

FOLDER = REPOSITORY / "results"


@dataclass(frozen=True)
class Result:
    """The rows NAME-SEED.json of one name, in the order of seeds."""

    name: str
    rows: Sequence[LedgerRow]

    def __post_init__(self) -> None:
        known = [({**row.config, "seed": 0}, row.data_digest) for row in self.rows]
        if any(one != known[0] for one in known):
            raise ValueError(f"the rows of {self.name} differ in more than the seed")

    @property
    def seeds(self) -> str:
        return ",".join(str(row.seed) for row in self.rows)

    @property
    def wall_time(self) -> str:
        return duration(fmean(row.wall_s for row in self.rows))

    @property
    def code(self) -> str:
        """The commits of the runs, or the version if a row has no commit."""
        return ", ".join(sorted({f"`{row.code_version.split('+g')[-1][:8]}`" for row in self.rows}))

    @property
    def repeating(self) -> str:
        return f"metafleet reproduce results/{self.name}-{self.rows[0].seed}.json --in-process"

    @property
    def preparing(self) -> str:
        return prepare_command(self.rows[0].config["data"])

    @cached_property
    def command(self) -> str:
        """The command that makes the runs."""
        first = self.rows[0]
        (path,) = EXPERIMENTS.rglob(f"{first.experiment}.toml")
        shipped = shipped_config(first.experiment) or {}
        changes = [
            change
            for change in difference(shipped, dict(first.config))
            if not (change.before == "auto" and change.key.startswith("engine."))
        ]
        if any(change.after is None for change in changes):
            raise ValueError(f"{self.name} lacks keys of its experiment, which --set cannot remove")
        options = [
            "--set " + shlex.quote(f"{change.key}={option_text(change.after)}")
            for change in changes
        ]
        where = f"experiments/{path.relative_to(EXPERIMENTS)}"
        words = ["metafleet submit", where, "--name", self.name, f"--seeds {self.seeds}"]
        return " ".join([*words, "--in-process", *options])

    def find(self, label: str) -> str | None:
        """Return the mean of a meta-test over seeds with its interval; None if it is in no row."""
        found = [metric for row in self.rows if (metric := _test(row, label))]
        if not found:
            return None
        mean = Mean.of([metric.value for metric in found])
        ci95 = found[0].ci95 if mean.ci95 is None else mean.ci95
        if found[0].accuracy is None:
            return f"{mean.mean:.3f} ± {ci95:.3f}"
        return f"{100 * mean.mean:.2f} ± {100 * ci95:.2f}"


def read_ledger(folder: Path = FOLDER) -> dict[str, Result]:
    """Return name -> its rows, for all rows of a folder."""
    groups: dict[str, list[LedgerRow]] = {}
    for path in folder.glob("*.json"):
        row = LedgerRow.read(path)
        name, _, seed = path.stem.rpartition("-")
        if seed != str(row.seed):
            raise ValueError(f"{path.name} is the row of seed {row.seed}")
        groups.setdefault(name, []).append(row)
    return {
        name: Result(name, sorted(rows, key=lambda row: row.seed))
        for name, rows in sorted(groups.items())
    }


def _test(row: LedgerRow, label: str) -> Metric | None:
    return next((m for m in row.metrics if (m.split, m.label) == (META_TEST, label)), None)
