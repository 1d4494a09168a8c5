"""Whether runs on other data sets help a sweep: warm-started against cold sweeps.

    python -m benchmarks.warm_start collect HOME [--data FOLDER] [--configurations 144]
    python -m benchmarks.warm_start portfolio HOME FILE
    python -m benchmarks.warm_start simulate HOME [--seeds 50] [--json FILE]

`collect` executes small runs of a pool of configurations on every data set, in this process, and
keeps them in the database of the folder HOME; it continues what was begun. Without --data, the data
sets are slices of glyphs, which need no download. FOLDER has the folders omniglot (with
omniglot_28x28_strokes64.npz), clinc150, fsdd and concepts; see docs/reference/datasets.md.

`simulate` reads the results, and repeats sweeps on them: each data set is left out in turn, and the
others advise it. A sweep has found a good configuration when its accuracy above chance is 95 % of
the best in the pool. Intervals are bootstrap intervals over data sets and seeds.

`portfolio` writes the results as the file that Metafleet ships.
"""

import argparse
import json
import os
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.leave_one_out import METHODS, simulate, summarise, without_distances
from benchmarks.warm_start_space import configurations, data_sets, experiment
from metafleet import Client
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories import RunRepository
from metafleet.errors import MetafleetError
from metafleet.orchestrator.advice.descriptions import describe_and_store, stored_descriptions
from metafleet.orchestrator.advice.evidence import Contest, key_of
from metafleet.orchestrator.advice.past_runs import read_past_runs, values_of
from metafleet.orchestrator.advice.portfolio import write_portfolio

_ORDER: Final = 0
"""Seed of the order of configurations, so that a part of them is a random pool."""


def collect(home: Path, folder: Path | None, n_configurations: int) -> None:
    """Execute the runs that the database lacks."""
    chosen = list(configurations())
    random.Random(_ORDER).shuffle(chosen)
    with Client(home=home) as client:
        done = {(r.name, key_of(_tried(r.config))) for r in client.runs("status=finished")}
        for number, values in enumerate(chosen[:n_configurations], 1):
            for data in data_sets(folder):
                tree = experiment(data, values)
                if (data.name, key_of(_tried(tree))) not in done:
                    _train(client, home, tree)
            print(f"{number} of {n_configurations} configurations", flush=True)


def contests_of(home: Path) -> list[Contest]:
    """Return the results of the database, with the data sets described, in order of their names."""
    settings = Settings.load(given={"METAFLEET_HOME": str(home)})
    with Database.open(settings.database_url) as database:
        with database.session(read_only=True) as session:
            past = read_past_runs(session, stored_descriptions(session))
        for options in past.undescribed.values():
            describe_and_store(database, settings, options)
        with database.session(read_only=True) as session:
            found = read_past_runs(session, stored_descriptions(session)).contests
            names = {run.id: run.name for run in RunRepository(session).list(limit=None)}
    common = set.intersection(*({key_of(r.values) for r in c.results} for c in found))
    whole = [
        replace(
            contest,
            data=names[contest.results[0].runs[0]],
            results=tuple(r for r in contest.results if key_of(r.values) in common),
        )
        for contest in found
    ]
    return sorted(whole, key=lambda contest: contest.data)


def _tried(config: Any) -> dict[str, Any]:
    """Return the values of the benchmark's keys, which differ between its configurations."""
    values = values_of(config)
    wanted = ("learner.", "model.hidden", "outer.lr", "outer.meta_batch_size")
    return {key: value for key, value in values.items() if key.startswith(wanted)}


def _train(client: Client, home: Path, tree: dict[str, Any]) -> None:
    try:
        (run,) = client.train(tree, in_process=True)
    except MetafleetError as error:
        print(f"{tree['name']}: {error}", file=sys.stderr, flush=True)
    else:  # thousands of checkpoints would fill the disk
        shutil.rmtree(home / "runs" / run.uid, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("collect", "portfolio", "simulate"):
        command = commands.add_parser(name)
        command.add_argument("home", type=Path)
        if name == "collect":
            command.add_argument("--data", type=Path)
            command.add_argument("--configurations", type=int, default=144)
        elif name == "portfolio":
            command.add_argument("file", type=Path)
        else:
            command.add_argument("--seeds", type=int, default=50)
            command.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    os.environ.update(METAFLEET_HOME=str(given.home), METAFLEET_ALLOWED_PACKAGES="benchmarks")
    torch.set_num_threads(1)
    if given.command == "collect":
        collect(given.home, given.data, given.configurations)
    elif given.command == "portfolio":
        write_portfolio(contests_of(given.home), given.file)
    else:
        _show(contests_of(given.home), given.seeds, given.json)


def _show(contests: Sequence[Contest], n_seeds: int, file: Path | None) -> None:
    """Print the tables of both ways to leave data out."""
    n_results = len(contests[0].results)
    print(f"{len(contests)} data sets, {n_results} configurations, {n_seeds} seeds\n")
    tables = {}
    for leaving, unit in (("set", "each data set"), ("source", "all data of one source")):
        outcomes = simulate(contests, leaving=leaving, n_seeds=n_seeds)
        tables[leaving] = table = summarise(outcomes)
        print(f"leaving out {unit}")
        print("| sweep | trials to 95 % | after 1 trial | after 3 | after 5 | after 10 |")
        print("|---|---|---|---|---|---|")
        for method in METHODS:
            print(f"| {method} | {' | '.join(table[method].values())} |")
        for method, text in table["difference"].items():
            print(f"trials that {method} saves: {text}")
        plain = without_distances(contests, leaving=leaving, n_seeds=n_seeds)
        print(f"trials with mean ranks that ignore distances: {plain}")
        print()
    if file is not None:
        file.write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
