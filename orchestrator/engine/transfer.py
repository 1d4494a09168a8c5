"""Sends a run's work to its workers: first the plan and the state, then the jobs."""

import logging
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING

from metafleet.contracts.blobs import open_blob_store
from metafleet.contracts.connections import Client, require_broker_url
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.plan import RunPlan
from metafleet.contracts.settings import Settings
from metafleet.contracts.tracing import step_span
from metafleet.errors import ConfigError
from metafleet.orchestrator.engine.data_publisher import DataPublisher
from metafleet.orchestrator.engine.feature_collector import FeatureCollector
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.open_step import OpenStep
from metafleet.orchestrator.engine.publisher import Publisher
from metafleet.orchestrator.engine.state_publisher import StatePublisher
from metafleet.orchestrator.engine.step import AnyRequest, EncodeRequest

if TYPE_CHECKING:
    from metafleet.orchestrator.engine.direct_server import DirectServer

log = logging.getLogger(__name__)


class Transfer:
    """Publishes plans and states, and sends jobs to their queues. Not thread-safe.

    Args:
        client: client of the broker.
        settings: locations of broker and blobs, and the signing key.
        run: the run's uid.
        options: options for the use of the fleet.
    """

    def __init__(
        self, client: Client, settings: Settings, run: str, *, options: FleetOptions
    ) -> None:
        url = require_broker_url(settings)
        self._blobs = blobs = open_blob_store(settings.blobs_url or url)
        self._options = options
        self._host_cache = HostCache(settings.host_cache_dir)
        self._area = self._host_cache.open_area(run)
        self._direct = _open_direct(settings)
        self._state_publisher = StatePublisher(
            client, blobs, run, area=self._area, wire_dtype=options.wire_dtype, direct=self._direct
        )
        self._data_publisher = DataPublisher(
            blobs,
            run,
            data_dir=settings.data_dir,
            allowed_packages=settings.allowed_packages,
            direct=self._direct,
        )
        self._publisher = Publisher(client, url, signing_key=settings.signing_key)
        self._keeps_logs = settings.attempt_logs == "all"
        self._is_missed = False
        self.sent_bytes = 0
        """Bytes of items sent to be encoded, with each attempt."""
        self.exchange = Exchange(blobs, self._area, direct=self._direct)
        """The exchange from which sums are fetched."""

    def send(
        self, step: OpenStep, placed: Mapping[int, str], *, hosts: Set[str], fingerprint: str
    ) -> None:
        """Send a new attempt of each shard in ``placed``.

        Args:
            step: the step of the shards. Its method ``move_to`` must have been called with the
                current epoch.
            placed: shard -> the Celery queue to which its attempt is sent.
            hosts: host ids of the workers (see ``HostCache``). The id of a worker that shares no
                memory is "".
            fingerprint: the numerics fingerprint that workers must have; "" for any fingerprint.

        Raises:
            redis.RedisError, BlobStoreFullError: it is unknown which jobs were sent.
        """
        here = self._host_cache.host_id if self._area is not None else ""
        is_spread = bool(hosts - {here})
        with step_span(step.request.stream, step.request.step, "plan"):
            plan = self._state_publisher.publish_plan(self._plan_of(step.request))
            self._data_publisher.publish()
            # before the state resets what was missed
            self._put_items(step, placed, everywhere=is_spread or self._is_missed)
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
            keeps_log=self._keeps_logs,
        )
        if self._direct is not None and is_spread and not step.is_deferred:
            for job in jobs:
                if job.kind in ("gradient", "encode"):
                    key = step.sum_key(job)
                    self._direct.expect(key, step.collector.result_bytes(job.shard))
        with step_span(step.request.stream, step.request.step, "send", jobs=len(jobs)):
            self._publisher.send((job, placed[job.shard]) for job in jobs)

    def _plan_of(self, request: AnyRequest) -> bytes:
        if isinstance(request, EncodeRequest):
            return request.plan.to_bytes()
        return RunPlan(request.spec, self._data_publisher.describe(request.spec)).to_bytes()

    def _put_items(self, step: OpenStep, shards: Iterable[int], *, everywhere: bool) -> None:
        """Store the items of an encoding step where workers can fetch them.

        Other steps have no items. The items are stored again for each attempt, because the earlier
        copy may be lost.
        """
        request, collector = step.request, step.collector
        if not isinstance(request, EncodeRequest) or not isinstance(collector, FeatureCollector):
            return
        exchange = Exchange(self._blobs, self._area, to_store=everywhere)
        for index in shards:
            shard = step.shards[index]
            items = request.items[shard.first_episode : shard.first_episode + shard.n_episodes]
            ref = collector.inputs[index] = exchange.put(
                f"{step.blob_prefix}items:{index}", request.plan.pack_items(items)
            )
            step.inputs[index] = (ref,)
            self.sent_bytes += ref.n_bytes

    def note_missed(self) -> None:
        """Record that a worker did not find the state; put later ones where all hosts find them."""
        self._is_missed = True
        self._state_publisher.note_missed()
        self._state_publisher.invalidate()  # it may have been evicted or overwritten

    def note_missed_data(self) -> None:
        """Record that a worker lacks features. They will be published with the next jobs."""
        self._data_publisher.note_missed()

    def invalidate(self) -> None:
        """Publish everything again with the next jobs, because it may be lost."""
        self._state_publisher.invalidate()

    def forget(self, step: OpenStep) -> None:
        """Release the blobs of a closed step in this host's memory."""
        if self._direct is not None:
            for key in step.open_sums:
                self._direct.forget(key)
        if self._area is not None:
            self._area.delete_all(step.blob_prefix)
        self._state_publisher.release(step.name)  # last, because the store may be unreachable

    def withdraw(self) -> None:
        """Delete the run's plans, states and features.

        Raises:
            redis.RedisError: Redis failed. Values that were not deleted will expire.
        """
        self._data_publisher.withdraw()
        self._state_publisher.withdraw()

    def close(self) -> None:
        """Release this host's memory, and close the connections to workers on other hosts."""
        if self._direct is not None:
            self._direct.close()
        if self._area is not None:
            self._area.close()


def _open_direct(settings: Settings) -> "DirectServer | None":
    """Listen for workers on other hosts, if an address is set and its port is free."""
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
