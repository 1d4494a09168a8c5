"""Processes that start at once: forks of one that has imported torch, Celery and our code."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.paths import REPOSITORY

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "celery.apps.worker",
        "celery.bin.celery",
        "celery.concurrency.prefork",
        "celery.concurrency.solo",
        "celery.worker.consumer",
        "kombu.transport.redis",
        "metafleet.orchestrator.cli.main",
        "metafleet.orchestrator.cli.runs",
        "metafleet.orchestrator.runs.launch",
        "metafleet.workers.broker",
        "metafleet.workers.lifecycle",  # not app: it reads the settings when it is imported
        "metafleet.workers.tasks",
        __name__,
    ]
)


class Fork:
    """A forked process, with the members of ``subprocess.Popen`` that tests need.

    Args:
        work: called in the process, with ``arguments``. Both are pickled.
        environment: all variables of the process.
        log: the file to which standard output and standard error are appended.
    """

    def __init__(
        self,
        work: Callable[..., object],
        *arguments: object,
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        self._process: BaseProcess = _CONTEXT.Process(
            target=_enter, args=(dict(environment), log, work, arguments)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("fork", timeout or 0.0)
        return self.returncode

    def kill(self) -> None:
        self._process.kill()


def run_celery(arguments: list[str]) -> None:
    """Do what ``celery`` does with these arguments."""
    from celery.__main__ import main  # noqa: PLC0415 - only a forked process needs it

    sys.argv = ["celery", *arguments]
    main()


def run_metafleet(arguments: list[str]) -> None:
    """Do what ``metafleet`` does with these arguments."""
    from metafleet.orchestrator.cli.main import main  # noqa: PLC0415 - the same

    sys.exit(main(arguments))


def _enter(
    environment: Mapping[str, str],
    log: Path,
    work: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    os.setsid()
    os.chdir(REPOSITORY)
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    work(*arguments)
