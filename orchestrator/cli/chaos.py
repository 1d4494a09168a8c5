"""`metafleet chaos`: kill workers of this machine while a run goes on, to see it survive."""

import os
import random
import re
import signal
import socket
import time

import click

from contracts.presence import WorkerInfo, list_workers
from contracts.settings import Settings
from db.engine import Database
from db.records import RunRecord
from db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from orchestrator.cli.context import load_settings, notify, open_broker, open_database

_POLL_S = 0.5
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m)?")


@click.command()
@click.option("--run", "ref", required=True, metavar="RUN", help="Stop when this run has ended.")
@click.option(
    "--kill-every", default="20s", show_default=True, metavar="TIME", help="Such as 20s or 2m."
)
@click.option("--seed", type=int, help="Choose the same victims again.")
def chaos(ref: str, kill_every: str, seed: int | None) -> None:
    r"""Kill a random worker of this machine every so often until RUN has ended.

    The run must end with the bits it would have had. Only with METAFLEET_CHAOS=1, so that nobody
    does it to a fleet that is needed. `metafleet up` starts its workers again.

    \b
    METAFLEET_CHAOS=1 metafleet chaos --run latest --kill-every 20s
    """
    settings = load_settings()
    if not settings.allows_chaos:
        raise ConfigError(
            "METAFLEET_CHAOS is not set; set METAFLEET_CHAOS=1 where workers may be killed"
        )
    every_s = _seconds(kill_every)
    chosen = random.Random(seed)
    with open_database(settings) as database:
        run = _read(database, ref)
        killed = 0
        while not run.status.is_final:
            if _wait(database, run, every_s):
                break
            killed += _kill_one(settings, chosen)
            run = _read(database, run.id)
        run = _read(database, run.id)
    click.echo(
        f"run {run.id} is {run.status.value} after {killed} kills; "
        f"sha256 {run.checkpoint_sha256 or 'none'}"
    )


def _wait(database: Database, run: RunRecord, every_s: float) -> bool:
    """Wait for the next kill; True when the run ended before."""
    deadline_s = time.monotonic() + every_s
    while time.monotonic() < deadline_s:
        if _read(database, run.id).status.is_final:
            return True
        time.sleep(min(_POLL_S, every_s))
    return False


def _kill_one(settings: Settings, chosen: random.Random) -> int:
    with open_broker(settings) as client:
        victims = [
            worker
            for worker in list_workers(client)
            if worker.is_alive and worker.host == socket.gethostname() and _is_there(worker)
        ]
    if not victims:
        notify("no living worker on this machine")
        return 0
    victim = chosen.choice(victims)
    os.kill(victim.pid, signal.SIGKILL)
    notify(f"killed {victim.name} (process {victim.pid})")
    return 1


def _is_there(worker: WorkerInfo) -> bool:
    try:
        os.kill(worker.pid, 0)
    except OSError:
        return False
    return True


def _read(database: Database, ref: int | str) -> RunRecord:
    with database.session(read_only=True) as session:
        return RunRepository(session).get(ref)


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None or not float(match[1]):
        raise ConfigError(f"--kill-every={text!r}; expected a time such as 20s or 2m")
    return float(match[1]) * (60 if match[2] == "m" else 1)
