"""Sends jobs as Celery messages: ids only, and a line that reads well in Flower."""

from collections.abc import Iterable

from kombu.exceptions import OperationalError

from contracts.celery_app import make_app
from contracts.connections import redis_errors
from contracts.job import INNER_LOOP, InnerLoopJob
from contracts.settings import redact_url
from contracts.signing import sign
from metafleet.errors import BrokerUnavailableError


class Publisher:
    """Sends jobs to one queue. Not thread-safe."""

    def __init__(self, url: str, *, queue: str, signing_key: str) -> None:
        self._url, self._queue, self._key = url, queue, signing_key
        self._app = make_app(url)

    def send(self, jobs: Iterable[InnerLoopJob]) -> None:
        """Send each job.

        Raises:
            BrokerUnavailableError: some may not have been sent; the ledger finds out which.
        """
        try:
            with redis_errors(self._url), self._app.producer_pool.acquire(block=True) as producer:
                for job in jobs:
                    self._app.send_task(
                        INNER_LOOP,
                        args=(sign(job, self._key).to_wire(),),
                        queue=self._queue,
                        task_id=_task_id(job),
                        # no ``expires``: workers compare it with their own clocks, and a stale
                        # message costs one look at the ledger
                        ignore_result=True,
                        # kombu would try again in silence, a time-out each; our caller tries again
                        # and says so
                        retry=False,
                        argsrepr=job.label,
                        kwargsrepr="",
                        producer=producer,
                    )
        except OperationalError as error:
            raise BrokerUnavailableError(
                f"Redis at {redact_url(self._url)} does not answer while jobs are sent ({error})"
            ) from error

    def close(self) -> None:
        """Close the broker connections."""
        self._app.close()


def _task_id(job: InnerLoopJob) -> str:
    """Name a message: unique, and readable in Flower."""
    return f"{job.run}.{job.stream}.{job.step}.{job.shard}.{job.attempt}.e{job.epoch}"
