"""Sends jobs as Celery messages: ids only, and a line that reads well in Flower."""

from collections.abc import Iterable

from contracts.celery_app import make_app
from contracts.connections import Client
from contracts.job import INNER_LOOP, InnerLoopJob
from contracts.keys import queue_list
from contracts.signing import sign
from contracts.task_message import task_message


class Publisher:
    """Sends jobs to one queue, all in one round trip.

    Args:
        client: of the broker.
        url: of the broker.
        queue: the Celery queue.
        signing_key: signs the jobs; "" leaves them unsigned.
    """

    def __init__(self, client: Client, url: str, *, queue: str, signing_key: str) -> None:
        self._client, self._queue, self._key = client, queue, signing_key
        self._app = make_app(url)

    def send(self, jobs: Iterable[InnerLoopJob]) -> None:
        """Send the jobs, in order.

        Raises:
            redis.RedisError: none, some or all were sent; the ledger finds out which.
        """
        messages = [
            task_message(
                *(self._app, INNER_LOOP, sign(job, self._key).to_wire()),
                task_id=_task_id(job),
                queue=self._queue,
                label=job.label,
            )
            for job in jobs
        ]
        if messages:
            self._client.lpush(queue_list(self._queue), *messages)


def _task_id(job: InnerLoopJob) -> str:
    """Name a message: unique, and readable in Flower."""
    return f"{job.run}.{job.stream}.{job.step}.{job.shard}.{job.attempt}.e{job.epoch}"
