"""Encodes items over the fleet: the orchestrator sends decoded items and keeps the features."""

import itertools
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from metafleet.contracts.connections import require_broker_url
from metafleet.contracts.plan import EncodingPlan
from metafleet.contracts.settings import Settings
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.choice import EncoderName
from metafleet.encoders.encoding import Chunk
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.fleet_options import FleetOptions
from metafleet.orchestrator.engine.step import EncodeRequest, Ticket

BATCHES_A_JOB: Final = 4
"""Always as many, so that batches are composed as in a single process."""

_OPEN_BYTES: Final = 1 << 28
"""Decoded items of chunks that are sent before the first of them is done."""

_LEAST_OPEN: Final = 2
_OPTIONS: Final = FleetOptions(
    episodes_per_job=BATCHES_A_JOB,
    device="any",
    is_strict=False,
    max_attempts=5,
    step_deadline_s=float("inf"),
)


@dataclass(slots=True)
class Encoded:
    """Counts of what a fleet has encoded.

    Attributes:
        n_items: number of encoded items.
        sent_bytes, received_bytes: total size of the items that were sent to workers, and total
            size of the features that workers returned, in bytes.
        workers: names of the worker processes that encoded items.
    """

    n_items: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    workers: set[str] = field(default_factory=set)


class FeatureFleet:
    """Encodes items on Celery workers that have the encoder's weights. Not thread-safe.

    Args:
        settings: locations of broker and blobs, and the signing key.
        notify: called with messages for users, for example if there is no worker.

    Raises:
        ConfigError: no broker is set.
    """

    def __init__(self, settings: Settings, notify: Callable[[str], None]) -> None:
        require_broker_url(settings)
        self._settings, self._notify = settings, notify
        self.encoded = Encoded()
        """What was encoded so far."""

    def encode(
        self, encoder: PretrainedEncoder, name: EncoderName, chunks: Iterator[Chunk]
    ) -> None:
        """Encode chunks; see ``metafleet.encoders.encoding.Encode``.

        Raises:
            FleetError: none of the workers can encode, or an item failed on every attempt.
            NumericsError: a feature is not finite.
            DataError: features cannot be stored.
        """
        first = next(chunks, None)
        if first is None:
            return
        dispatcher = FleetDispatcher(
            self._settings,
            f"features-{uuid.uuid4().hex[:16]}",
            options=_options_for(encoder),
            next_epoch=_Epochs(),
            notify=self._notify,
            is_granted=True,
        )
        try:
            _Sending(dispatcher, _plan_of(encoder, name, first), self.encoded).send(
                itertools.chain([first], chunks)
            )
        finally:
            self.encoded.sent_bytes += dispatcher.sent_bytes
            dispatcher.close()


class _Epochs:
    """Counts epochs; no database does, because nothing is recorded."""

    def __init__(self) -> None:
        self._newest = 0

    def __call__(self, beyond: int) -> int:
        self._newest = max(self._newest, beyond) + 1
        return self._newest


class _Sending:
    """The chunks of one modality on their way, oldest first."""

    def __init__(self, dispatcher: FleetDispatcher, plan: EncodingPlan, encoded: Encoded) -> None:
        self._dispatcher, self._plan, self._encoded = dispatcher, plan, encoded
        self._open: deque[tuple[Ticket, int]] = deque()
        self._numbers = itertools.count()

    def send(self, chunks: Iterator[Chunk]) -> None:
        for chunk in chunks:
            request = EncodeRequest(next(self._numbers), self._plan, chunk.items, chunk.take)
            self._open.append((self._dispatcher.begin(request), chunk.items.nbytes))
            while len(self._open) > _LEAST_OPEN and self._open_bytes > _OPEN_BYTES:
                self._finish_one()
        while self._open:
            self._finish_one()

    @property
    def _open_bytes(self) -> int:
        return sum(n_bytes for _, n_bytes in self._open)

    def _finish_one(self) -> None:
        ticket, _ = self._open.popleft()
        for job in self._dispatcher.finish(ticket).jobs:
            self._encoded.n_items += job.episodes
            self._encoded.received_bytes += job.payload_bytes
            self._encoded.workers.add(job.worker)


def _options_for(encoder: PretrainedEncoder) -> FleetOptions:
    return replace(_OPTIONS, episodes_per_job=BATCHES_A_JOB * encoder.batch_items)


def _plan_of(encoder: PretrainedEncoder, name: EncoderName, chunk: Chunk) -> EncodingPlan:
    shape = chunk.items.shape[1:]
    return EncodingPlan(
        encoder=name,
        identity=json.loads(json.dumps(encoder.identity())),
        dtype=chunk.items.dtype.str,
        shape=shape,
        n_features=encoder.n_features(shape),
    )
