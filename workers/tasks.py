"""The Celery task, which passes a job to this process's runner."""

import functools
from typing import Any

from celery import shared_task

from metafleet.contracts.job import INNER_LOOP
from metafleet.contracts.settings import Settings
from metafleet.workers.inner_loop import InnerLoopRunner


@functools.cache
def get_runner() -> InnerLoopRunner:
    """Return this process's runner. Pool processes create theirs at their first job."""
    return InnerLoopRunner(Settings.load())


@shared_task(name=INNER_LOOP, ignore_result=True)  # type: ignore[untyped-decorator]
def inner_loop(job: dict[str, Any]) -> str:
    """Compute one shard. The result goes to the ledger, and the returned text to Flower."""
    return get_runner().run(job)
