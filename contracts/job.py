"""The engine's two messages: a job for a worker and its result. They carry ids, no tensors."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from metafleet.errors import NotFiniteError, ProtocolMismatchError, SchemaError

PROTOCOL_VERSION = 6
INNER_LOOP = "metafleet.inner_loop"
"""Name of the only Celery task."""


def _encodable(text: str) -> str:
    text.encode()  # lone surrogates, as in undecodable file names, cannot be stored or sent
    return text


Kind = Literal["gradient", "evaluate", "inner_curve", "reduce", "encode"]
Status = Literal["ok", "failed", "refused", "missing"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Text = Annotated[str, AfterValidator(_encodable)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
AreaName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class BlobRef(_Part):
    """A reference to encoded tensors, with the digest or seal that authenticates them.

    Attributes:
        key: name of the blob.
        n_bytes: length of the encoded tensors.
        digest: digest of the bytes, if they are in the blob store.
        seal: seal of the file that contains the bytes (see ``host_files``), if it is in the memory
            of the orchestrator's host.
    """

    key: Text
    n_bytes: Count
    digest: str = ""
    seal: str = ""


class _Message(_Part):
    protocol: int = PROTOCOL_VERSION
    signature: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the message as JSON values."""
        return self.model_dump(mode="json")


class InnerLoopJob(_Message):
    """A request for one shard of a step: adapt to its episodes and sum their meta-gradients.

    A job of kind "encode" contains items in place of episodes. The result of such a job is the
    features of the items.

    Attributes:
        run, epoch: the run's uid, and the fencing epoch of the orchestrator that sent the job.
        stream, step: name of the sequence of steps ("train", "validate-..."), and the step's number
            in this sequence.
        shard, n_shards, attempt: index of the shard, number of shards, index of the attempt from 0.
        kind: "gradient" for a sum of meta-gradients, "evaluate" for metrics only, "inner_curve" for
            metrics after each inner step, "reduce" for a sum of sums, "encode" for features.
        split, episode_step: episodes are drawn from CounterRng(seed, split, episode_step).
        first_episode, n_episodes: the shard's range of episode indices.
        plan: digest of the run's workload description; for "encode", digest of the encoder's
            description.
        state, state_bytes: digest and length of the encoded meta-learned state.
        wire_dtype: type to which float32 tensors of state and sum are converted for sending.
        inputs: for "reduce", the sums to add, in the order of the reduction tree; for "encode", the
            items.
        host, area: the orchestrator's host, and the name of the folder in memory through which the
            orchestrator exchanges states and sums with workers on its host. Both are "" if the
            orchestrator uses no such folder.
        direct: URL at which the orchestrator exchanges tensors with workers on other hosts,
            "http://host:port" or "https://host:port"; "" if there is no such URL.
        via_store: whether to put the sum into the blob store even if there is a faster way. This is
            True if a worker on another host may add up the sums.
        fingerprint: the numerics fingerprint that the worker must have; "" for any.
        lease_ms: milliseconds until a lease ends if it is not renewed.
        deadline_s: maximum seconds for the job; its lease is not renewed after that.
        sent_us: when the job was sent, in microseconds of Redis's clock.
        trace: the trace of the step, in the form of W3C's traceparent; "" if it has none.
        keeps_log: whether the worker keeps the attempt's log lines even if its result counts.
    """

    run: Name
    epoch: Count
    stream: Name
    step: Count
    shard: Count
    n_shards: Count
    attempt: Count
    kind: Kind
    split: Name
    episode_step: Count
    first_episode: Count
    n_episodes: Annotated[int, Field(ge=1, lt=2**31)]
    plan: Digest
    state: Digest
    state_bytes: Count
    wire_dtype: Literal["float32", "bfloat16"]
    inputs: tuple[BlobRef, ...] = Field(strict=False)
    host: str
    area: AreaName
    direct: Annotated[str, Field(max_length=300)]
    via_store: bool
    fingerprint: str
    lease_ms: Annotated[int, Field(ge=100)]
    deadline_s: Annotated[float, Field(gt=0)]
    sent_us: Count
    keeps_log: bool
    trace: Annotated[str, Field(pattern=r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$")]

    @property
    def label(self) -> str:
        """A readable description of the job for Flower, which cuts long ones.

        Numbers are those of ``metafleet runs log``. The run is part of the message's id.
        """
        again = f" attempt={self.attempt + 1}" if self.attempt else ""
        return f"{self.stream} step={self.step} shard={self.shard}{again}"


class ShardResult(_Message):
    """A worker's answer to a job.

    Attributes:
        run, epoch, stream, step, shard, attempt: as in the job.
        status: ok, failed (there was an error), refused (this worker must not compute the job), or
            missing (a blob that the job needs is not in the stores).
        worker, device: the process that computed it ("host:pid") and its device ("cpu",
            "cuda:0 NVIDIA ...").
        fingerprint: the worker's numerics fingerprint.
        queue_wait_s, compute_s: seconds from sending to starting the job, and seconds of computing.
        blob_bytes: length of the encoded sum; 0 if there is no sum.
        blob_digest, blob_seal: see ``BlobRef``.
        losses, accuracies: one value for each episode, in the order of the episodes. For kind
            "inner_curve", there are several values for each episode; see
            ``Workload.inner_metrics``. For regression, there are no accuracies.
        error, is_retryable: the error message, and whether another attempt may succeed.
        reason: the kind of error, as a label for counters.
    """

    run: Name
    epoch: Count
    stream: Name
    step: Count
    shard: Count
    attempt: Count
    status: Status
    worker: Text
    device: Text
    fingerprint: Text
    queue_wait_s: float = 0.0
    compute_s: float = 0.0
    blob_bytes: Count = 0
    blob_digest: str = ""
    blob_seal: str = ""
    losses: tuple[float, ...] = Field(default=(), strict=False)
    accuracies: tuple[float, ...] = Field(default=(), strict=False)
    error: Text = ""
    is_retryable: bool = False
    reason: Annotated[str, Field(pattern=r"^[a-z_]{0,32}$")] = ""

    def blob(self, key: str) -> BlobRef:
        """Return a reference to the sum. The caller, not the sender, decides its ``key``."""
        return BlobRef(
            key=key, n_bytes=self.blob_bytes, digest=self.blob_digest, seal=self.blob_seal
        )


_M = TypeVar("_M", bound=_Message)


def parse_job(wire: object) -> InnerLoopJob:
    """Parse and check a received job.

    Raises:
        ProtocolMismatchError: the sender has another protocol version.
        NotFiniteError: a number is NaN or infinite.
        SchemaError: a field is missing, unknown, of the wrong type or out of range.
    """
    return _parse(InnerLoopJob, wire)


def parse_result(wire: object) -> ShardResult:
    """Parse and check a received result. Raises the errors of ``parse_job``."""
    return _parse(ShardResult, wire)


def _parse(message: type[_M], wire: object) -> _M:
    version = wire.get("protocol") if isinstance(wire, dict) else None
    if version != PROTOCOL_VERSION:
        raise ProtocolMismatchError(
            f"received a {message.__name__} of protocol {version!r}, this side speaks "
            f"{PROTOCOL_VERSION}; run the same metafleet version on orchestrator and workers"
        )
    try:
        return message.model_validate(wire)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        kind = NotFiniteError if first["type"] == "finite_number" else SchemaError
        raise kind(
            f"{message.__name__}.{field}={first['input']!r:.80}: {first['msg']}; "
            "the sender is not a metafleet of this version"
        ) from error
