"""Carries a run's work to its workers: what they need first, then the jobs."""

import logging
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

from metafleet.contracts.blobs import open_blob_store
from metafleet.contracts.connections import Client, require_broker_url
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.open_step import OpenStep
from metafleet.orchestrator.engine.publisher import Publisher
from metafleet.orchestrator.engine.state_publisher import StatePublisher

if TYPE_CHECKING:
    from metafleet.orchestrator.engine.direct_server import DirectServer

log = logging.getLogger(__name__)


class Transfer:
    """Plans and states where workers find them, messages in their queue. Not thread-safe.

    Args:
        client: of the broker.
        settings: where broker and blobs are, and the signing key.
        run: the run's uid.
        options: how the fleet is used.
    """

    def __init__(
        self, client: Client, settings: Settings, run: str, *, options: FleetOptions
    ) -> None:
        url = require_broker_url(settings)
        blobs = open_blob_store(settings.blobs_url or url)
        self._options = options
        self._host_cache = HostCache(settings.host_cache_dir)
        self._area = self._host_cache.open_area(run)
        self._direct = _open_direct(settings)
        self._state_publisher = StatePublisher(
            client, blobs, run, area=self._area, wire_dtype=options.wire_dtype, direct=self._direct
        )
        self._publisher = Publisher(client, url, signing_key=settings.signing_key)
        self._is_missed = False
        self.exchange = Exchange(blobs, self._area, direct=self._direct)
        """Where sums are fetched from."""

    def send(
        self, step: OpenStep, placed: Mapping[int, str], *, hosts: Set[str], fingerprint: str
    ) -> None:
        """Send a new attempt of each of some shards.

        Args:
            step: theirs, under the epoch it is to go on under.
            placed: which, and the Celery queue that each goes to.
            hosts: whose memory the workers share, see ``HostCache``; "" for those who share none.
            fingerprint: the numerics that workers must have; "" for any.

        Raises:
            redis.RedisError, BlobStoreFullError: some may not have been sent.
        """
        here = self._host_cache.host_id if self._area is not None else ""
        is_spread = bool(hosts - {here})
        plan = self._state_publisher.publish_plan(step.request.spec)
        version, n_bytes = self._state_publisher.publish_state(
            step.request.state,
            holder=step.name,
            everywhere=is_spread or self._is_missed,
            here=here in hosts or not hosts,
        )
        self._is_missed = False
        jobs = step.jobs(
            placed,
            plan=plan,
            state=version,
            state_bytes=n_bytes,
            fingerprint=fingerprint,
            deadline_s=self._options.job_deadline_s,
            host=here,
            area=self._area.name if self._area is not None else "",
            direct=self._direct.address if self._direct is not None and is_spread else "",
            via_store=is_spread and step.is_deferred,
        )
        if self._direct is not None and is_spread and not step.is_deferred:
            for job in jobs:
                if job.kind == "gradient":
                    key = step.sum_key(job)
                    self._direct.expect(key, step.collector.sum_bytes)
        self._publisher.send((job, placed[job.shard]) for job in jobs)

    def note_missed(self) -> None:
        """Note that a worker did not find the state: the next goes where every host finds it."""
        self._is_missed = True
        self._state_publisher.note_missed()
        self._state_publisher.invalidate()  # evicted, perhaps, or overwritten

    def invalidate(self) -> None:
        """Note that what was published may be lost: publish it again with the next jobs."""
        self._state_publisher.invalidate()

    def forget(self, step: OpenStep) -> None:
        """Give up what a closed step held in this host's memory."""
        if self._direct is not None:
            for key in step.open_sums:
                self._direct.forget(key)
        if self._area is not None:
            self._area.delete_all(step.blob_prefix)
        self._state_publisher.release(step.name)  # last: it asks the store, which may be away

    def withdraw(self) -> None:
        """Delete the run's plans and states.

        Raises:
            redis.RedisError: they will have to expire.
        """
        self._state_publisher.withdraw()

    def close(self) -> None:
        """Give up this host's memory, and hang up on workers of others."""
        if self._direct is not None:
            self._direct.close()
        if self._area is not None:
            self._area.close()


def _open_direct(settings: Settings) -> "DirectServer | None":
    """Listen for workers of other hosts, when an address is set and its port is free."""
    if not settings.direct_address:
        return None
    if not settings.signing_key:
        raise ConfigError(
            "METAFLEET_DIRECT_ADDRESS is set but METAFLEET_SIGNING_KEY is not, by which the "
            "orchestrator knows its callers; set the same key on orchestrator and workers"
        )
    # slow to import, most runs need none
    from metafleet.orchestrator.engine.direct_server import DirectServer, open_tls  # noqa: PLC0415

    cert, key = settings.direct_cert, settings.direct_cert_key
    if key and not cert:
        raise ConfigError(
            "METAFLEET_DIRECT_CERT_KEY is set but METAFLEET_DIRECT_CERT is not; set both, or none "
            "to leave direct transfers unencrypted"
        )
    try:
        tls = open_tls(cert, key) if cert else None
        return DirectServer(settings.direct_address, settings.signing_key, tls=tls)
    except OSError as error:
        log.warning(
            "%s is taken (%s): tensors go through the store; give no port to have a free one",
            settings.direct_address,
            error.strerror or error,
        )
        return None
