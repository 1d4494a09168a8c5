"""The `metafleet` command: its subcommands, errors and exit statuses."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from metafleet.contracts.private_files import private_files
from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings
from metafleet.errors import MetafleetError
from metafleet.orchestrator.cli.environment import refusal
from metafleet.orchestrator.cli.lazy_group import LazyCommand, lazy_group
from metafleet.orchestrator.reporting.output import notify, show_all_characters, unread_is_fine

EXIT_ERROR = 1
EXIT_CRASH = 70  # sysexits.h: an internal software error
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM

_COMMANDS = {
    "demo": LazyCommand(
        "metafleet.orchestrator.cli.demo:demo", "Meta-train on a small local fleet."
    ),
    "submit": LazyCommand("metafleet.orchestrator.cli.submit:submit", "Run an experiment file."),
    "sweep": LazyCommand(
        "metafleet.orchestrator.cli.sweep:sweep", "Try many configurations and test the best."
    ),
    "sweeps": LazyCommand(
        "metafleet.orchestrator.cli.sweeps:sweeps", "List, show, draw and cancel sweeps."
    ),
    "suggest": LazyCommand(
        "metafleet.orchestrator.cli.suggest:suggest", "Suggest configurations for a data set."
    ),
    "reproduce": LazyCommand(
        "metafleet.orchestrator.cli.reproduce:reproduce", "Run a recorded result again."
    ),
    "serve": LazyCommand(
        "metafleet.orchestrator.cli.serve:serve", "Execute queued runs until Ctrl-C."
    ),
    "runs": LazyCommand(
        "metafleet.orchestrator.cli.runs:runs", "Find, show, watch, clone and delete runs."
    ),
    "dashboard": LazyCommand(
        "metafleet.orchestrator.cli.dashboard:dashboard", "Show runs as web pages."
    ),
    "evaluate": LazyCommand(
        "metafleet.orchestrator.cli.evaluate:evaluate", "Evaluate a trained run."
    ),
    "report": LazyCommand(
        "metafleet.orchestrator.cli.report:report", "Write a report of runs as one HTML file."
    ),
    "adapt": LazyCommand(
        "metafleet.orchestrator.cli.adapt:adapt", "Learn new classes from a few examples."
    ),
    "predict": LazyCommand(
        "metafleet.orchestrator.cli.predict:predict", "Label a folder with a model."
    ),
    "export": LazyCommand("metafleet.orchestrator.cli.export:export", "Export a trained model."),
    "worker": LazyCommand(
        "metafleet.orchestrator.cli.worker:worker", "Run a worker on this machine."
    ),
    "workers": LazyCommand(
        "metafleet.orchestrator.cli.workers:workers", "Show the fleet's workers."
    ),
    "top": LazyCommand(
        "metafleet.orchestrator.cli.top:top", "Watch runs and workers in the terminal."
    ),
    "exporter": LazyCommand(
        "metafleet.orchestrator.cli.exporter:exporter", "Serve metrics for Prometheus."
    ),
    "data": LazyCommand(
        "metafleet.orchestrator.cli.data:data", "List, prepare and inspect data sets."
    ),
    "up": LazyCommand(
        "metafleet.orchestrator.cli.up:up", "Run a Redis server and workers on this machine."
    ),
    "db": LazyCommand(
        "metafleet.orchestrator.cli.database:database", "Check and upgrade the database."
    ),
    "chaos": LazyCommand("metafleet.orchestrator.cli.chaos:chaos", "Kill workers during a run."),
    "doctor": LazyCommand(
        "metafleet.orchestrator.cli.doctor:doctor", "Find what is wrong and how to fix it."
    ),
}


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM: end as after Ctrl-C, with another exit status."""


@click.group(cls=lazy_group(_COMMANDS), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="metafleet", prog_name="metafleet")
def cli() -> None:
    """Meta-learning over a fleet of Celery workers, reproducible to the bit.

    Start with `metafleet demo`, or with `metafleet up` in one terminal and `metafleet submit FILE`
    in another.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; print no tracebacks."""
    show_all_characters(sys.stdout)
    previous = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        return _run(arguments)
    except click.ClickException as error:
        return _fail(_usage_message(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        return _interrupted(error)
    except BrokenPipeError:
        return _quiet_exit()
    except MetafleetError as error:
        return _fail(str(error), EXIT_ERROR)
    except Exception as error:
        refused = refusal(error)
        return _fail(refused, EXIT_ERROR) if refused else _crashed(error)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(arguments: Sequence[str] | None) -> int:
    status = cli.main(args=arguments, prog_name="metafleet", standalone_mode=False)
    sys.stdout.flush()  # here, where a closed pipe is handled
    return status if isinstance(status, int) else 0


def _on_terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _fail(message: str, status: int) -> int:
    for line in message.splitlines():
        notify(f"error: {line}")
    return status


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message}; see `{error.ctx.command_path} --help`"
    return message


def _interrupted(error: BaseException) -> int:
    cause = error.__cause__ if isinstance(error, click.Abort) else error
    for note in getattr(cause, "__notes__", ()):
        notify(note)
    notify("interrupted")
    return EXIT_TERMINATED if isinstance(cause, Terminated) else EXIT_INTERRUPTED


def _quiet_exit() -> int:
    for stream in (sys.stdout, sys.stderr):
        with unread_is_fine(stream):  # either pipe may be closed: keep the last lines of the other
            stream.flush()
    return EXIT_ERROR


def _crashed(error: Exception) -> int:
    where = _write_crash_log(error)
    text = str(error).replace("\n", " ")
    return _fail(
        f"metafleet itself failed: {type(error).__name__}: {text:.200} ({where}); please report it",
        EXIT_CRASH,
    )


def _write_crash_log(error: Exception) -> str:
    report = "".join(traceback.format_exception(error))
    try:
        settings = Settings.load()
        folder, report = settings.home, Redactor.of(settings)(report)
    except MetafleetError:
        folder, report = Path.cwd(), Redactor()(report)
    path = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        with private_files():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(report, encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        return f"the traceback could not be written to {path}: {failure.strerror}"
    return f"traceback in {path}"
