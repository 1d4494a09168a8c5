"""`metafleet chaos`: kill workers on this machine during a run, to test that it survives."""

import itertools
import random
import re
import socket
import time
from collections.abc import Sequence

import click
import psutil

from metafleet.contracts.connections import open_broker
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.presence import WorkerInfo, list_workers
from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunRecord
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError, FleetError
from metafleet.orchestrator.cli.context import load_settings, open_records
from metafleet.orchestrator.reporting.output import notify

_POLL_S = 0.5
_ABANDONED_AFTER_S = 60.0
_APP = ("metafleet.workers.app", "--app=metafleet.workers.app")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m)?")


@click.command()
@click.option("--run", "ref", required=True, metavar="RUN", help="Stop when this run has ended.")
@click.option(
    "--kill-every",
    default="20s",
    show_default=True,
    metavar="TIME",
    help="Time between two kills, e.g. 20s or 2m.",
)
@click.option("--seed", type=int, help="Seed for the choice of workers.")
def chaos(ref: str, kill_every: str, seed: int | None) -> None:
    """Kill a random worker on this machine at regular intervals until RUN has ended.

    In spite of the killed workers, RUN must end with the same bits. To protect fleets in real use,
    the command requires METAFLEET_CHAOS=1. `metafleet up` restarts its workers. The command also
    stops if RUN has no owner (no orchestrator executes it) and has made no progress for a minute.

    \b
    METAFLEET_CHAOS=1 metafleet chaos --run latest --kill-every 20s
    """
    settings = load_settings()
    if not settings.allows_chaos:
        raise ConfigError(
            "METAFLEET_CHAOS is not 1; set METAFLEET_CHAOS=1 where workers may be killed"
        )
    every_s = _seconds(kill_every)
    chosen = random.Random(seed)
    with open_records(settings, ref) as database:
        vigil = _Vigil(database, settings, _read(database, ref))
        killed = 0
        while not vigil.has_ended_within(every_s):
            killed += _kill_one(settings, chosen)
        run = vigil.run
    if not run.status.is_final:
        raise FleetError(
            f"run {run.id} stood still at step {run.steps_done} for {_ABANDONED_AFTER_S:g} s and "
            f"no orchestrator owns it (after {killed} kills); "
            f"continue it with `metafleet runs resume {run.id}`"
        )
    click.echo(
        f"run {run.id} is {run.status.value} after {killed} kills; "
        f"sha256 {run.checkpoint_sha256 or 'none'}"
    )


class _Vigil:
    """Watches one run until it has ended or is abandoned."""

    def __init__(self, database: Database, settings: Settings, run: RunRecord) -> None:
        self._database, self._settings = database, settings
        self._moved_s = time.monotonic()
        self.run = run

    def has_ended_within(self, time_s: float) -> bool:
        """Watch for ``time_s`` seconds; return True once the run has ended or is abandoned."""
        deadline_s = time.monotonic() + time_s
        while not self._has_ended():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(_POLL_S, left_s))
        return True

    def _has_ended(self) -> bool:
        seen, self.run = self.run, _read(self._database, self.run.id)
        if (seen.status, seen.epoch, seen.steps_done) != (
            self.run.status,
            self.run.epoch,
            self.run.steps_done,
        ):
            self._moved_s = time.monotonic()
        return self.run.status.is_final or self._is_abandoned()

    def _is_abandoned(self) -> bool:
        if time.monotonic() - self._moved_s < _ABANDONED_AFTER_S:
            return False
        with open_broker(self._settings) as client:
            is_owned = bool(client.exists(RunKeys(self.run.uid).lease))
        if is_owned:  # a long validation, or no workers for a while
            self._moved_s = time.monotonic()
        return not is_owned


def _kill_one(settings: Settings, chosen: random.Random) -> int:
    with open_broker(settings) as client:
        alive = [worker for worker in list_workers(client) if worker.is_alive]
    found = [(worker, _find_process(worker)) for worker in alive]
    victims = [(worker, process) for worker, process in found if process is not None]
    if not victims:
        notify("no living worker on this machine")
        return 0
    victim, process = chosen.choice(victims)
    try:
        process.kill()  # psutil first checks that the pid was not reused
    except psutil.Error as error:
        notify(f"{victim.name} (process {victim.pid}) could not be killed: {error}")
        return 0
    notify(f"killed {victim.name} (process {victim.pid})")
    return 1


def _find_process(worker: WorkerInfo) -> psutil.Process | None:
    """Return a worker's process; None if it is on another host or may not be a worker.

    The broker's entry for the worker contains a process id. The id alone is not enough, for two
    reasons. The operating system reuses ids, and a signal to the id 0 or -1 would go to many
    processes.
    """
    if worker.host != socket.gethostname() or type(worker.pid) is not int or worker.pid <= 1:
        return None
    try:
        process = psutil.Process(worker.pid)
        words = process.cmdline()
    except (psutil.Error, OverflowError):
        return None
    return process if _is_worker_command(words) else None


def _is_worker_command(words: Sequence[str]) -> bool:
    """Return whether a command line is Celery's with our app, or that of ``metafleet worker``."""
    is_celery = "worker" in words and any(word in words for word in _APP)
    return is_celery or ("-m", "metafleet.workers") in itertools.pairwise(words)


def _read(database: Database, ref: int | str) -> RunRecord:
    with database.session(read_only=True) as session:
        return RunRepository(session).get(ref)


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None or not float(match[1]):
        raise ConfigError(f"--kill-every={text!r}; expected a time such as 20s or 2m")
    return float(match[1]) * (60 if match[2] == "m" else 1)
