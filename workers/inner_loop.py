"""Runs a job, from its message to the committed result."""

import contextlib
import json
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from metafleet.cancellation import cancellable, stop_if_unwanted
from metafleet.contracts.attempt_outcomes import AttemptReason
from metafleet.contracts.blobs import BlobStore, open_blob_store
from metafleet.contracts.code_used import describe_code
from metafleet.contracts.codec import Schema, decode_tensors, narrow, narrow_schema, widen
from metafleet.contracts.connections import connect, redis_errors, require_broker_url
from metafleet.contracts.device import describe_device, prepare_process, resolve_device
from metafleet.contracts.direct_client import DirectClient
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.fingerprint import fingerprint_text, merged, require_numerics
from metafleet.contracts.host_cache import HostCache
from metafleet.contracts.job import BlobRef, InnerLoopJob, ShardResult, parse_job
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.ledger import JobLedger
from metafleet.contracts.logs import job_context
from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings
from metafleet.contracts.signing import sign, verify
from metafleet.contracts.tracing import job_span, note_outcome
from metafleet.encoders.runtime import compute_on
from metafleet.errors import (
    BlobMissingError,
    BrokerUnavailableError,
    ConfigError,
    ContractError,
    DataError,
    FingerprintError,
    ImpureError,
    NumericsError,
    StaleError,
)
from metafleet.params import MetaState, Params, flatten_state
from metafleet.reduction import TreeReducer
from metafleet.workers.caches import StateCache, WorkloadCache
from metafleet.workers.item_encoder import ItemEncoder
from metafleet.workers.job_log import JobLog, KeptLog
from metafleet.workers.lease import LeaseKeeper
from metafleet.workers.received_data import ReceivedData
from metafleet.workers.watchdog import watch

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
"""How long to retry committing a finished result while Redis is down."""

_STORE_PATIENCE_S = 5.0
"""How long the blob store may be down before the job is refused: other workers may reach it."""

_REFUSAL_PAUSE_S = 1.0
"""Pause after refusing a job, so that this worker does not take the same job right again."""

_REFUSALS: Final[dict[type[Exception], AttemptReason]] = {
    FingerprintError: AttemptReason.FINGERPRINT,
    DataError: AttemptReason.DATA,
    ConfigError: AttemptReason.CONFIG,
    BrokerUnavailableError: AttemptReason.STORE,
}
"""Errors that mean that this worker cannot compute a job, with their reasons."""

T = TypeVar("T")


class InnerLoopRunner:
    """Runs jobs in this process, one at a time. Keeps workloads and states between jobs."""

    def __init__(self, settings: Settings) -> None:
        device = resolve_device(settings.device)
        prepare_process(device)
        compute_on(device)  # encoders too
        self._url = require_broker_url(settings)
        self._key = settings.signing_key
        self._client = connect(self._url)
        self._blobs: BlobStore = open_blob_store(settings.blobs_url or self._url)
        self._direct = DirectClient(self._key, ca_file=settings.direct_ca)
        self._workloads = WorkloadCache(
            self._client,
            data_dir=settings.data_dir,
            device=device,
            allowed_packages=settings.allowed_packages,
            cache_dir=settings.programs_dir,
            received=ReceivedData(
                self._blobs,
                settings.data_dir,
                direct=self._direct,
                allowed_packages=settings.allowed_packages,
                unused_days=settings.received_days,
            ),
        )
        self._host_cache = HostCache(settings.host_cache_dir)
        self._states = StateCache(self._blobs, self._host_cache, self._direct)
        self._encoder = ItemEncoder(self._client, allowed_packages=settings.allowed_packages)
        self._leases = LeaseKeeper()
        self._redact = Redactor.of(settings)
        self._log = JobLog(self._redact)
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._device = describe_device(device)
        self._torch_device, self._fingerprint = device, fingerprint_text(device)

    def run(self, wire: object) -> str:
        """Check, compute and commit one job. Return its outcome as text for Celery's Flower.

        It is safe to call this twice for the same job. The ledger in Redis lets each attempt start
        only once, so the second call does nothing. The ledger also accepts only one result of each
        shard.

        Raises:
            ContractError: the message is not a job of a trusted orchestrator of this version.
            BrokerUnavailableError: Redis stayed unreachable. The orchestrator will resend the job.
        """
        job = parse_job(wire)
        verify(job, self._key)
        with job_context(job), self._log.recording(), job_span(job, self._worker) as span:
            return self._run(job, span)

    def _run(self, job: InnerLoopJob, span: "Span | None") -> str:
        ledger = JobLedger(self._client, job, nonce=f"{self._worker}/{uuid.uuid4().hex}")
        status, queue_wait_s = self._persist(ledger.start)
        if status != "ok":
            log.info("dropped: %s", status)
            return f"dropped: {status}"
        if job.keeps_log:
            log.info("began a job of %d episodes after %.3f s", job.n_episodes, queue_wait_s)
        kept = KeptLog(self._log, ledger, self._url)
        started_s = time.monotonic()
        with (
            self._leases.keep(ledger, job, kept.save_new) as lease,
            cancellable(lambda: lease.is_unwanted),
        ):
            try:
                with watch(job):
                    result = self._compute(job, queue_wait_s)
            except StaleError:
                log.info("stopped: another attempt was first")
                with contextlib.suppress(BrokerUnavailableError), redis_errors(self._url):
                    ledger.note_stopped()  # try once: the note is not worth waiting for
                kept.save()
                return "stopped: not wanted any more"
            compute_s = time.monotonic() - started_s
            result = sign(result.model_copy(update={"compute_s": compute_s}), self._key)
            if job.keeps_log or result.status != "ok":
                kept.save()  # first, because the orchestrator may take it with the result
            committed = self._persist(lambda: ledger.commit(result.model_dump_json()))
        if committed != "ok" and result.blob_bytes:
            self._exchange(job).delete(result.blob(_blob_key(job)))
        outcome = result.status if committed == "ok" else f"late: {committed}"
        log.info("%s after %.3f s", outcome, compute_s)
        note_outcome(span, outcome, queue_wait_s=queue_wait_s, error=result.reason)
        if committed != "ok":
            kept.save()
        elif result.status == "ok" and not job.keeps_log:
            kept.drop()
        if result.status == "refused" or result.reason == AttemptReason.MISSING_DATA:
            time.sleep(_REFUSAL_PAUSE_S)
        return f"{outcome} {compute_s:.2f}s" + (f" {result.error}" if result.error else "")

    def _compute(self, job: InnerLoopJob, queue_wait_s: float) -> ShardResult:
        result = ShardResult(
            run=job.run,
            epoch=job.epoch,
            stream=job.stream,
            step=job.step,
            shard=job.shard,
            attempt=job.attempt,
            status="ok",
            worker=self._worker,
            device=self._device,
            fingerprint=self._fingerprint,
            queue_wait_s=queue_wait_s,
        )
        update: dict[str, object]
        try:
            require_numerics(job.fingerprint, self._fingerprint)
            with redis_errors(self._url):
                return result.model_copy(update=self._work(job))
        except StaleError:
            raise
        except BlobMissingError as error:
            update = {"status": "missing", "error": str(error), "reason": error.reason}
        except (FingerprintError, DataError, ConfigError, BrokerUnavailableError) as error:
            # another worker may have the data, the package, the processor or the store
            reason: str = next(word for kind, word in _REFUSALS.items() if isinstance(error, kind))
            update = {"status": "refused", "error": f"{self._worker}: {error}", "reason": reason}
        except ImpureError as error:
            self._states.forget(job)
            update = {"status": "failed", "error": str(error), "reason": AttemptReason.IMPURE}
        except NumericsError as error:  # every worker would get the same numbers
            update = {"status": "failed", "error": str(error), "reason": AttemptReason.NON_FINITE}
        except Exception as error:  # a lost blob, a bug, no memory: a retry may succeed
            log.exception("failed")
            text = f"{self._worker}: {type(error).__name__}: {error}"
            reason = error.reason if isinstance(error, ContractError) else AttemptReason.ERROR
            update = {"status": "failed", "error": text, "reason": reason, "is_retryable": True}
        update["error"] = _sendable(self._redact(str(update["error"])))
        log.warning("%s: %s", update["status"], update["error"])
        return result.model_copy(update=update)

    def _work(self, job: InnerLoopJob) -> dict[str, object]:
        if job.kind == "encode":
            return _promise(self._put(job, self._encoder.encode(job, self._exchange(job))))
        workload, schema = self._workloads.get(job)
        if job.kind == "reduce":
            return _promise(self._put(job, self._add_up(job, schema)))
        code = describe_code(workload.spec)
        fingerprint = merged(self._fingerprint, json.dumps(code)) if code else self._fingerprint
        if job.kind == "gradient" and workload.spec.execution.is_compiled:
            fingerprint = fingerprint_text(self._torch_device, compiles=True, code=code)
        require_numerics(job.fingerprint, fingerprint)
        state = self._states.get(job, schema)
        if job.kind in ("evaluate", "inner_curve"):
            judge = workload.evaluate if job.kind == "evaluate" else workload.inner_metrics
            metrics = judge(
                state,
                split=job.split,
                step=job.episode_step,
                first_episode=job.first_episode,
                n_episodes=job.n_episodes,
            )
            blob = None
        else:
            gradient = workload.gradient(
                state,
                split=job.split,
                step=job.episode_step,
                first_episode=job.first_episode,
                n_episodes=job.n_episodes,
            )
            metrics = gradient.metrics
            sums = flatten_state(MetaState(gradient.grads, gradient.buffers))
            blob = self._put(job, narrow(sums, job.wire_dtype))
        return {
            "fingerprint": fingerprint,
            "losses": tuple(m.loss for m in metrics),
            "accuracies": tuple(m.accuracy for m in metrics if m.accuracy is not None),
            **(_promise(blob) if blob is not None else {}),
        }

    def _add_up(self, job: InnerLoopJob, schema: Schema) -> Params:
        """Add sums along the tree, exactly as the orchestrator would."""
        exchange, reducer = self._exchange(job), TreeReducer(len(job.inputs))
        for index, ref in enumerate(job.inputs):
            stop_if_unwanted()
            try:
                data = self._persist(
                    lambda r=ref: exchange.get(r, what=f"input {r.key}"),  # type: ignore[misc]
                    patience_s=_STORE_PATIENCE_S,
                )
                tensors = decode_tensors(data, narrow_schema(schema, job.wire_dtype))
            except ContractError as error:  # unusable, so treat it as missing
                raise BlobMissingError(str(error)) from error
            reducer.add(index, widen(tensors, schema), may_change=False)
        return reducer.result()

    def _put(self, job: InnerLoopJob, tensors: Params) -> BlobRef:
        exchange = self._exchange(job)
        return self._persist(
            lambda: exchange.put(_blob_key(job), tensors), patience_s=_STORE_PATIENCE_S
        )

    def _exchange(self, job: InnerLoopJob) -> Exchange:
        area = self._host_cache.find_area(job.host, job.area)
        # other workers' sums, and the total of them, are not transferred directly
        direct = self._direct.to(job.direct) if job.kind != "reduce" else None
        return Exchange(self._blobs, area, to_store=job.via_store, direct=direct)

    def _persist(self, call: Callable[[], T], *, patience_s: float = _PATIENCE_S) -> T:
        """Call until Redis or the blob store answers, with backoff."""
        give_up_s = time.monotonic() + patience_s
        pause_s = 0.1
        while True:
            try:
                with redis_errors(self._url):
                    return call()
            except BrokerUnavailableError as error:
                if time.monotonic() + pause_s > give_up_s:
                    raise
                log.warning("%s; trying again in %.1f s", error, pause_s)
                time.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, 3.0)


def _blob_key(job: InnerLoopJob) -> str:
    step = RunKeys(job.run).step(job.stream, job.step, epoch=job.epoch)
    return step.blob(job.shard, job.attempt)


def _promise(blob: BlobRef) -> dict[str, object]:
    return {"blob_bytes": blob.n_bytes, "blob_digest": blob.digest, "blob_seal": blob.seal}


def _sendable(text: str) -> str:
    """Shorten a message, and escape characters that UTF-8 cannot encode (odd file names)."""
    return text[:1000].encode(errors="backslashreplace").decode()
