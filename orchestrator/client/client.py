"""The client: finds, submits, executes and compares runs from Python."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.recording.left_rows import put_back_lost_runs
from metafleet.orchestrator.records.arms import find_arms
from metafleet.orchestrator.records.comparison import Comparison, compare_arms
from metafleet.orchestrator.records.difference import flat
from metafleet.orchestrator.records.selecting import Selection, select_runs
from metafleet.orchestrator.runs.dead_owners import settle_dead_runs
from metafleet.splits import META_TEST

if TYPE_CHECKING:
    from metafleet.orchestrator.config.experiment import ExperimentConfig

log = logging.getLogger(__name__)

Config = str | Path | Mapping[str, Any]
"""A file, the name of a shipped experiment, or nested tables as ``Run.config`` has them."""


class Client:
    """Access to the database of runs from Python, like the commands `metafleet runs` and `submit`.

    As a context manager, a client closes the database on exit. A notebook can leave the database
    open.

    Args:
        home: replaces the environment variable METAFLEET_HOME. If an argument is None, the value of
            its environment variable is used.
        database_url: replaces METAFLEET_DATABASE_URL.
        broker_url: replaces METAFLEET_BROKER_URL.
    """

    def __init__(
        self,
        *,
        home: str | Path | None = None,
        database_url: str | None = None,
        broker_url: str | None = None,
    ) -> None:
        given = {
            "METAFLEET_HOME": home,
            "METAFLEET_DATABASE_URL": database_url,
            "METAFLEET_BROKER_URL": broker_url,
        }
        self._settings = Settings.load(
            given={name: str(value) for name, value in given.items() if value is not None}
        )
        self._database = Database.open(self._settings.database_url)
        put_back_lost_runs(self._database, self._settings, log.warning)
        settle_dead_runs(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. Runs of this client cannot be read after that."""
        self._database.close()

    def run(self, ref: int | str = "latest") -> Run:
        """Return a run by id, uid, name (the newest of that name) or "latest".

        Raises:
            RunNotFoundError: there is no such run.
        """
        with self._database.session(read_only=True) as session:
            return self._of(RunRepository(session).get(ref))

    def runs(
        self, where: str = "", *, sort: str = "", limit: int | None = None, archived: bool = False
    ) -> list[Run]:
        """Return runs, newest first.

        Args:
            where: a filter, in the language of `metafleet runs list --where`. An example is
                "outer.lr<0.01 and status=finished". With "", all runs are returned.
            sort: keys to sort by, separated by commas. "-" before a key means descending order.
            limit: maximum number of runs; None for all.
            archived: whether to return archived runs as well.

        Raises:
            ConfigError: the filter cannot be parsed, or a key of the filter occurs in no run.
        """
        wanted = Selection.parse([where], sort, with_archived=archived, limit=limit)
        with self._database.session(read_only=True) as session:
            return [self._of(entry.run) for entry in select_runs(session, wanted)]

    def submit(
        self,
        config: Config,
        *,
        overrides: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        name: str | None = None,
        priority: int = 0,
    ) -> list[Run]:
        """Put one run for each seed into the servers' queue, without waiting for the runs.

        `metafleet serve` executes the runs. ``Run.wait`` waits until a run has ended.

        Args:
            config: a TOML file, the name of a shipped experiment, or nested tables.
            overrides: dotted key -> value that replaces the value in ``config``, such as
                {"outer.lr": 0.01}.
            seeds: the seeds; by default, the seed of the configuration.
            name: name of the runs; by default, the name of the experiment.
            priority: priority of the runs in the queue. Runs with a higher priority are executed
                first.

        Raises:
            ConfigError: the configuration has problems. The message has one line for each problem.
            DataMissingError: the data are not on this machine.
        """
        checked = self._load(config, overrides or {})
        chosen = (checked.seed,) if seeds is None else seeds
        return self._create(checked, seeds=chosen, name=name, detached=True, priority=priority)

    def train(
        self,
        config: Config,
        *,
        overrides: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        name: str | None = None,
        in_process: bool = False,
    ) -> list[Run]:
        """Execute one run for each seed, one after the other, and return the runs.

        Args:
            config: as for ``submit``.
            overrides: as for ``submit``.
            seeds: as for ``submit``.
            name: as for ``submit``.
            in_process: whether to compute in this process, without a fleet. The bits are the same
                as with a fleet.

        Raises:
            ConfigError: the configuration has problems.
            MetafleetError: a run failed. The runs after it were not begun.
        """
        # imported here: reading records needs no learning core
        from metafleet.orchestrator.client.silent_observer import SilentObserver  # noqa: PLC0415
        from metafleet.orchestrator.runs.launch import execute_run  # noqa: PLC0415
        from metafleet.orchestrator.runs.run_session import ExecutionOptions  # noqa: PLC0415

        checked = self._load(config, overrides or {})
        runs = []
        for seed in (checked.seed,) if seeds is None else seeds:
            (run,) = self._create(checked, seeds=(seed,), name=name)
            with private_files():
                execute_run(
                    self._database,
                    self._settings,
                    run.id,
                    options=ExecutionOptions(in_process),
                    observer=SilentObserver(),
                )
            runs.append(run.refresh())
        return runs

    def compare(self, *names: str, split: str = META_TEST) -> Comparison:
        """Compare each further run or group with the first one, like `metafleet runs compare`.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: there are fewer than two names, or a filter matches runs that differ in
                more than the seed.
        """
        with self._database.session(read_only=True) as session:
            return compare_arms(session, find_arms(session, names), split)

    def _create(
        self,
        config: "ExperimentConfig",
        *,
        seeds: Sequence[int],
        name: str | None,
        detached: bool = False,
        priority: int = 0,
    ) -> list[Run]:
        # imported here: reading records needs no learning core
        from metafleet.orchestrator.config.naming import check_name  # noqa: PLC0415
        from metafleet.orchestrator.runs.launch import (  # noqa: PLC0415
            Queueing,
            check_data,
            create_runs,
        )

        if name is not None:
            check_name(name, "name")
        for seed in seeds:
            config.with_seed(seed)
        with private_files():
            check_data(self._settings, config, lambda what, done, total: None)
        found = create_runs(
            self._database,
            self._settings,
            config,
            seeds=seeds,
            name=name,
            queue=Queueing(detached=detached, priority=priority),
        )
        return [self._of(record) for record in found]

    def _load(self, config: Config, overrides: Mapping[str, Any]) -> "ExperimentConfig":
        from metafleet.experiments import find_experiment  # noqa: PLC0415 - as above
        from metafleet.orchestrator.config.experiment import ExperimentConfig  # noqa: PLC0415

        assigned = _assignments(overrides)
        allowed = self._settings.allowed_packages
        if isinstance(config, Mapping):
            return ExperimentConfig.changed(
                config, assigned, origin="configuration", allowed_packages=allowed
            )
        return ExperimentConfig.load(
            find_experiment(Path(config)), assigned, allowed_packages=allowed
        )

    def _of(self, record: RunRecord) -> Run:
        return Run(self._database, self._settings, record)


def _assignments(overrides: Mapping[str, Any]) -> list[str]:
    """Return dotted keys and values as ``--set`` accepts them; JSON of plain values is TOML."""
    return [f"{key}={json.dumps(value)}" for key, value in flat(overrides).items()]
