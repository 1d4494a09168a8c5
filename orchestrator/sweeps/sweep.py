"""A sweep in the database, controlled by one process at a time."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from sqlalchemy import Connection

from metafleet.contracts.settings import Settings
from metafleet.data.registry import pin
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord, RunStatus, SweepRecord, TrialRecord
from metafleet.db.repositories import ServerRepository, SweepRepository
from metafleet.errors import ConfigError, FencedError, MetafleetError
from metafleet.orchestrator.records.difference import difference
from metafleet.orchestrator.runs.launch import Queueing, create_runs
from metafleet.orchestrator.runs.process_name import has_died, process_name
from metafleet.orchestrator.sweeps.plan import Plan, one_line
from metafleet.orchestrator.sweeps.trial import Trial
from metafleet.orchestrator.sweeps.trials import trials_of


class Sweep:
    """The trials of a plan. Only the process that has the sweep's epoch may add trials.

    Args:
        database: an open database.
        settings: where the data are.
        plan: the description of the sweep.
        record: the sweep in the database, with the epoch of this process.
    """

    def __init__(
        self, database: Database, settings: Settings, plan: Plan, record: SweepRecord
    ) -> None:
        self._database, self._settings = database, settings
        self.plan, self.record = plan, record

    @classmethod
    def of_record(cls, database: Database, settings: Settings, record: SweepRecord) -> "Sweep":
        """Return the sweep of a row of the database."""
        plan = Plan.from_json(
            record.plan,
            name=record.name,
            config=record.config,
            n_trials=record.n_trials,
            parallel=record.parallel,
        )
        return cls(database, settings, plan, record)

    def trials(self) -> list[Trial]:
        """Return the trials so far, in the order of their numbers."""
        return trials_of(self._database, self.record.id)

    def add_trial(self, *, detached: bool) -> RunRecord | None:
        """Record the next trial and its run, for this process or for the servers' queue.

        If the configuration is invalid, the trial is recorded as refused and None is returned.

        Raises:
            FencedError: another process controls the sweep, or the sweep was cancelled.
        """
        trials = {trial.number: trial for trial in self.trials()}
        number = next(n for n in itertools.count() if n not in trials)  # a run may be deleted
        values = self.plan.search.propose(
            number, {n: trial.outcome() for n, trial in trials.items()}
        )
        new = TrialRecord(sweep_id=self.record.id, number=number, assigned=values)

        def keep(session: Connection, runs: Sequence[RunRecord]) -> None:
            self._add(session, replace(new, run_id=runs[0].id))

        try:
            config = self.plan.configuration(values, self._settings.allowed_packages)
            (run,) = create_runs(
                self._database,
                self._settings,
                config,
                seeds=[config.seed],
                name=self.plan.name,
                queue=Queueing(detached=detached),
                tags=(self.plan.tag, f"trial:{number}"),
                keep=keep,
            )
        except ConfigError as error:
            with self._database.session() as session:
                self._add(session, replace(new, refused=one_line(error)))
            return None
        return run

    def end(self, status: RunStatus, error: str | None = None) -> None:
        """Record that this process no longer controls the sweep, if the database can be written."""
        with suppress(MetafleetError):
            self.mark(status, error)

    def mark(self, status: RunStatus, error: str | None = None) -> None:
        """Set the status of the sweep.

        Raises:
            FencedError: another process controls the sweep, or the sweep was cancelled.
        """
        with self._database.session() as session:
            sweeps = SweepRepository(session)
            sweeps.hold(self.record.id, epoch=self.record.epoch)
            sweeps.mark_status(self.record.id, status, error=error)

    def _add(self, session: Connection, new: TrialRecord) -> None:
        sweeps = SweepRepository(session)
        sweeps.hold(self.record.id, epoch=self.record.epoch)
        sweeps.add_trial(new)


@contextmanager
def ending(sweep: Sweep) -> Iterator[None]:
    """Record how the block ended as the status of the sweep."""
    try:
        yield
    except KeyboardInterrupt:
        sweep.end(RunStatus.INTERRUPTED, "interrupted")
        raise
    except FencedError:
        raise
    except MetafleetError as error:
        sweep.end(RunStatus.FAILED, str(error))
        raise
    sweep.end(RunStatus.FINISHED)


def open_sweep(database: Database, settings: Settings, plan: Plan) -> Sweep:
    """Begin or continue a sweep in this process.

    Raises:
        ConfigError: the database has a sweep of this name with another configuration or plan, or
            another process controls the sweep.
    """
    record = _prepare(database, settings, plan)
    try:
        with database.session() as session:
            claimed = SweepRepository(session).claim(
                record.id, seen_epoch=record.epoch, owner=process_name()
            )
    except FencedError as error:
        raise ConfigError(
            f"another process took sweep {plan.name!r} in this moment; wait for its end, or choose "
            "another --name"
        ) from error
    return Sweep(database, settings, plan, claimed)


def queue_sweep(database: Database, settings: Settings, plan: Plan) -> SweepRecord:
    """Begin or continue a sweep whose control is left to servers. Return its row.

    Raises:
        ConfigError: for the same reasons as ``open_sweep``.
    """
    record = _prepare(database, settings, plan)
    with database.session() as session:
        sweeps = SweepRepository(session)
        sweeps.requeue(record.id, seen_epoch=record.epoch)
        return sweeps.get(record.id)


def settle_dead_sweeps(database: Database) -> None:
    """Mark each sweep as interrupted whose process ran on this machine and no longer exists.

    Sweeps that servers control are not changed, because other servers take them over.
    """
    with database.session(read_only=True) as session:
        found = SweepRepository(session).list()
    for sweep in found:
        is_attached = sweep.status is RunStatus.RUNNING and not sweep.detached
        if is_attached and sweep.owner is not None and has_died(sweep.owner):
            with suppress(FencedError), database.session() as session:
                sweeps = SweepRepository(session)
                sweeps.hold(sweep.id, epoch=sweep.epoch)
                why = f"its process {sweep.owner.split('/')[0]} died"
                sweeps.mark_status(sweep.id, RunStatus.INTERRUPTED, error=why)


def _prepare(database: Database, settings: Settings, plan: Plan) -> SweepRecord:
    """Return the sweep's row after adding it or checking it against the plan."""
    config = plan.config.with_data(pin(plan.config.data, settings.data_dir)).to_json()
    with database.session() as session:
        sweeps = SweepRepository(session)
        found = sweeps.find(plan.name)
        if found is not None:
            sweeps.hold(found.id, epoch=found.epoch)  # no other process may add a trial meanwhile
        if found is None:
            found = sweeps.add(plan.name, config=config, plan=plan.to_json())
        elif not any(trial.run_id for trial in sweeps.trials(found.id)):
            _refuse_controlled(session, found)
            sweeps.replace(found.id, config=config, plan=plan.to_json())
        else:
            _refuse_controlled(session, found)
            _check_same(found, plan, config)
        sweeps.request(found.id, n_trials=plan.n_trials, parallel=plan.parallel)
        return sweeps.get(found.id)


def _check_same(found: SweepRecord, plan: Plan, config: dict[str, object]) -> None:
    """Check that the trials so far could be trials of this plan."""
    start = f"sweep {plan.name!r} was begun with"
    end = "choose another --name, or give the options of that sweep"
    for change in difference(config, found.config):
        if change.key not in plan.keys:
            raise ConfigError(
                f"{start} {change.key}={change.after!r:.40}, not {change.before!r:.40}; {end}"
            )
    for name, value in plan.to_json().items():
        if name == "first" and found.plan.get(name) != value:
            raise ConfigError(f"{start}{'' if found.plan.get(name) else 'out'} --warm-start; {end}")
        if found.plan.get(name) != value:
            raise ConfigError(
                f"{start} --{name} {_shown(found.plan.get(name))}, not {_shown(value)}; {end}"
            )


def _shown(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{text!r:.80}"


def _refuse_controlled(session: Connection, found: SweepRecord) -> None:
    """Refuse a sweep that a live process controls, as far as this machine can tell."""
    if found.status is not RunStatus.RUNNING or found.owner is None:
        return
    if found.detached:
        is_alive = ServerRepository(session).is_alive(found.owner)
    else:
        is_alive = not has_died(found.owner)
    if is_alive:
        raise ConfigError(
            f"sweep {found.name!r} is being executed by {found.owner.split('/')[0]}; watch it with "
            f"`metafleet sweeps show {found.name}`, stop it with `metafleet sweeps cancel "
            f"{found.name}`, or choose another --name"
        )
