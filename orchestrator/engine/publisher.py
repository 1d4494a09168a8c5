"""Sends jobs as Celery messages, which contain only ids and a readable line for Flower."""

from collections.abc import Iterable

from metafleet.contracts.celery_app import make_app
from metafleet.contracts.connections import Client
from metafleet.contracts.job import INNER_LOOP, InnerLoopJob
from metafleet.contracts.keys import queue_list, queue_name
from metafleet.contracts.ledger import RUN_TTL_MS
from metafleet.contracts.signing import sign
from metafleet.contracts.task_message import task_message


class Publisher:
    """Sends jobs to their queues. All jobs of a call are sent in one round trip.

    Args:
        client: client of the broker.
        url: URL of the broker.
        signing_key: key to sign the jobs with; "" leaves them unsigned.
    """

    def __init__(self, client: Client, url: str, *, signing_key: str) -> None:
        self._client, self._key = client, signing_key
        self._app = make_app(url, signing_key)

    def send(self, jobs: Iterable[tuple[InnerLoopJob, str]]) -> None:
        """Send each job to its queue. The argument is a sequence of (job, Celery queue) pairs.

        Raises:
            redis.RedisError: it is unknown which jobs were sent. The ledger of attempts in Redis
                will show which jobs a worker has begun.
        """
        messages: dict[str, list[bytes]] = {}
        for job, queue in jobs:
            message = task_message(
                self._app,
                INNER_LOOP,
                sign(job, self._key).to_wire(),
                task_id=_task_id(job),
                queue=queue_name(queue, self._key),
                label=job.label,
            )
            messages.setdefault(queue, []).append(message)
        if messages:
            pipeline = self._client.pipeline(transaction=False)
            for queue, own in messages.items():
                name = queue_list(queue, self._key)
                pipeline.lpush(name, *own)
                pipeline.pexpire(name, RUN_TTL_MS)  # in case no worker with this key is left
            pipeline.execute()


def _task_id(job: InnerLoopJob) -> str:
    """Return a message id that is unique and readable in Flower."""
    return f"{job.run}.{job.stream}.{job.step}.{job.shard}.{job.attempt}.e{job.epoch}"
