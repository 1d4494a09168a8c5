"""The two messages of the engine: a job out to a worker, a result back. Ids only, no tensors."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from metafleet.errors import NotFiniteError, ProtocolMismatchError, SchemaError

PROTOCOL_VERSION = 4
INNER_LOOP = "metafleet.inner_loop"
"""Name of the one Celery task."""


def _encodable(text: str) -> str:
    text.encode()  # half a surrogate pair, as in undecodable file names, can't be stored or sent on
    return text


Kind = Literal["gradient", "evaluate", "reduce"]
Status = Literal["ok", "failed", "refused", "missing"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Text = Annotated[str, AfterValidator(_encodable)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
AreaName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class BlobRef(_Part):
    """Where tensors are, and what vouches for them in a signed message.

    Attributes:
        key: their name.
        n_bytes: their encoded length.
        digest: of their bytes, when they are in the blob store.
        seal: of their file, when they are in the memory of the orchestrator's host.
    """

    key: Text
    n_bytes: Count
    digest: str = ""
    seal: str = ""


class _Message(_Part):
    protocol: int = PROTOCOL_VERSION
    signature: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return self.model_dump(mode="json")


class InnerLoopJob(_Message):
    """One shard of one step: adapt to these episodes, return the sum of their gradients.

    Attributes:
        run, epoch: the run's uid, and the fencing epoch of the orchestrator that sent this.
        stream, step: which sequence of steps ("train", "validate-..."), and which step of it.
        shard, n_shards, attempt: which part, of how many, sent for the how-many-th time (from 0).
        kind: sum of meta-gradients, metrics alone, or the sum of sums.
        split, episode_step: where episodes are drawn from: CounterRng(seed, split, episode_step).
        first_episode, n_episodes: the shard's range of episode indices.
        plan: digest of the run's workload description.
        state, state_bytes: digest and length of the encoded meta-learned state.
        wire_dtype: how float32 tensors of state and sum travel.
        inputs: of "reduce", the sums to be added, in order along the tree.
        host, area: the orchestrator's host, and where in its memory it keeps the state and takes
            sums from workers of that host; "" when it does not.
        direct: URL at which the orchestrator takes and gives tensors, for workers of other hosts:
            "http://host:port" or "https://host:port"; "" when it does not.
        via_store: the sum goes through the blob store all the same: another host may add it up.
        fingerprint: required numerics fingerprint; "" accepts any.
        lease_ms: how long a lease lasts when it is not renewed.
        deadline_s: longest time for one job; its lease is not renewed beyond.
        sent_us: Redis time at which it was sent, microseconds.
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

    @property
    def label(self) -> str:
        """Say which job this is, for people: logs, Flower, messages."""
        return (
            f"run={self.run} {self.stream} step={self.step} "
            f"shard={self.shard + 1}/{self.n_shards} attempt={self.attempt}"
        )


class ShardResult(_Message):
    """What a worker made of a job.

    Attributes:
        run, epoch, stream, step, shard, attempt: as in the job.
        status: ok, failed (an error), refused (this worker must not compute it), or missing (what
            it needs is not in the stores).
        worker, device: who computed it ("host:pid") and on what ("cpu", "cuda:0 NVIDIA ...").
        fingerprint: the worker's numerics fingerprint.
        queue_wait_s, compute_s: seconds between sending and starting, and of computing.
        blob_bytes: length of the encoded sum; 0 without one.
        blob_digest, blob_seal: see ``BlobRef``.
        losses, accuracies: one for each episode, in order; accuracies empty for regression.
        error, is_retryable: the message of what went wrong, and whether another try may help.
        reason: the kind of error, in a word that can be counted.
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
        """Describe the sum; ``key`` is where it must be, whatever the sender says."""
        return BlobRef(
            key=key, n_bytes=self.blob_bytes, digest=self.blob_digest, seal=self.blob_seal
        )


_M = TypeVar("_M", bound=_Message)


def parse_job(wire: object) -> InnerLoopJob:
    """Check a received job.

    Raises:
        ProtocolMismatchError: the sender speaks another version.
        NotFiniteError: a number is none.
        SchemaError: a field is missing, unknown, of the wrong type or out of range.
    """
    return _parse(InnerLoopJob, wire)


def parse_result(wire: object) -> ShardResult:
    """Check a received result; raises as ``parse_job`` does."""
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
