"""The client: finds, submits, executes and compares runs from Python."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from metafleet.contracts.connections import open_broker
from metafleet.contracts.private_files import private_files
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.errors import ConfigError
from metafleet.orchestrator.client.records import Records
from metafleet.orchestrator.client.run import Run
from metafleet.orchestrator.recording.left_rows import put_back_lost_runs
from metafleet.orchestrator.runs.dead_owners import settle_dead_runs
from metafleet.tracking.flat import flat
from metafleet.tracking.targets import check_targets

if TYPE_CHECKING:
    from metafleet.orchestrator.config.experiment import ExperimentConfig

log = logging.getLogger(__name__)

Config = str | Path | Mapping[str, Any]
"""A file, the name of a shipped experiment, or nested tables as ``Run.config`` has them."""


class Client(Records):
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
        settings = Settings.load(
            given={name: str(value) for name, value in given.items() if value is not None}
        )
        super().__init__(Database.open(settings.database_url), settings)
        put_back_lost_runs(self._database, self._settings, log.warning)
        settle_dead_runs(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. Runs of this client cannot be read after that."""
        self._database.close()

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
            seeds: different seeds, one for each run, such as [1, 2, 3]; by default, the seed of the
                configuration.
            name: name of the runs; by default, the name of the experiment.
            priority: priority of the runs in the queue, -1000 to 1000. Runs with a higher priority
                are executed first.

        Raises:
            ConfigError: the configuration has problems. The message has one line for each problem.
            DataMissingError: the data are not on this machine.
        """
        checked = self._load(config, overrides or {})
        chosen = _checked_seeds(seeds, checked)
        return self._create(checked, seeds=chosen, name=name, detached=True, priority=priority)

    def train(
        self,
        config: Config,
        *,
        overrides: Mapping[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        name: str | None = None,
        in_process: bool = False,
        track: Sequence[Any] = (),
    ) -> list[Run]:
        """Execute one run for each seed, one after the other, and return the runs.

        Args:
            config: as for ``submit``.
            overrides: as for ``submit``.
            seeds: as for ``submit``.
            name: as for ``submit``.
            in_process: whether to compute in this process, without a fleet. The bits are the same
                as with a fleet.
            track: where to send the records while the runs are executed, in addition to
                METAFLEET_TRACK: targets of ``Run.send_to``. An open run takes the records of one
                run only.

        Raises:
            ConfigError: the configuration has problems, a target is unknown, or its library is not
                installed.
            BrokerUnavailableError: the broker cannot be reached. Nothing was recorded.
            MetafleetError: a run failed. The runs after it were not begun.
        """
        # imported here: reading records needs no learning core
        from metafleet.orchestrator.client.silent_observer import SilentObserver  # noqa: PLC0415
        from metafleet.orchestrator.runs.launch import execute_run  # noqa: PLC0415
        from metafleet.orchestrator.runs.run_session import ExecutionOptions  # noqa: PLC0415

        checked = self._load(config, overrides or {})
        check_targets(track)
        runs = []
        chosen = _checked_seeds(seeds, checked)
        if not in_process:
            with open_broker(self._settings):
                pass  # it answers
        for seed in chosen:
            (run,) = self._create(checked, seeds=(seed,), name=name)
            with private_files():
                execute_run(
                    self._database,
                    self._settings,
                    run.id,
                    options=ExecutionOptions(in_process),
                    observer=SilentObserver(),
                    track=track,
                )
            runs.append(run.refresh())
        return runs

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
        from metafleet.orchestrator.config.bounded import require_plain  # noqa: PLC0415
        from metafleet.orchestrator.config.experiment import ExperimentConfig  # noqa: PLC0415

        allowed = self._settings.allowed_packages
        if not isinstance(overrides, Mapping):
            raise ConfigError(f"overrides={overrides!r:.60}; expected a dict of keys and values")
        require_plain(overrides)
        if isinstance(config, Mapping):
            require_plain(config)
            return ExperimentConfig.changed(
                config, flat(overrides), origin="configuration", allowed_packages=allowed
            )
        return ExperimentConfig.load(
            find_experiment(Path(config)), flat(overrides), allowed_packages=allowed
        )


def _checked_seeds(seeds: Sequence[int] | None, config: "ExperimentConfig") -> list[int]:
    """Return the seeds, or that of the configuration.

    Raises:
        ConfigError: ``seeds`` is not a list of different seeds, or a seed is out of range.
    """
    if seeds is None:
        return [config.seed]
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise ConfigError(
            f"seeds={seeds!r:.60} is no list; expected one seed per run, such as [1, 2, 3] or "
            "range(3)"
        )
    chosen = list(seeds)
    for seed in chosen:
        if isinstance(seed, bool) or not isinstance(seed, Integral):
            raise ConfigError(f"seeds has {seed!r:.60}; expected whole numbers")
        config.with_seed(int(seed))
    if not chosen or len(set(chosen)) != len(chosen):
        problem = "names a seed twice" if chosen else "is empty"
        raise ConfigError(f"seeds={chosen!r:.60} {problem}; expected different seeds")
    return list(map(int, chosen))
