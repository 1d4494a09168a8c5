"""The two messages of the engine: a job out to a worker, a result back. Ids only, no tensors."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from metafleet.errors import ContractError, ProtocolMismatchError

PROTOCOL_VERSION = 1
INNER_LOOP = "metafleet.inner_loop"
"""Name of the one Celery task."""


def _encodable(text: str) -> str:
    text.encode()  # half a surrogate pair, as in undecodable file names, can't be stored or sent on
    return text


Kind = Literal["gradient", "evaluate"]
Status = Literal["ok", "failed", "refused", "missing"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Text = Annotated[str, AfterValidator(_encodable)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

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
        kind: sum of meta-gradients, or metrics alone.
        split, episode_step: where episodes are drawn from: CounterRng(seed, split, episode_step).
        first_episode, n_episodes: the shard's range of episode indices.
        plan: sha256 of the run's workload description.
        state, state_bytes: sha256 and length of the encoded meta-learned state.
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
    plan: Sha256
    state: Sha256
    state_bytes: Count
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
        blob_sha256, blob_bytes: digest and length of the encoded sum; "" and 0 without one.
        losses, accuracies: one for each episode, in order; accuracies empty for regression.
        error, is_retryable: the message of what went wrong, and whether another try may help.
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
    blob_sha256: str = ""
    blob_bytes: Count = 0
    losses: tuple[float, ...] = Field(default=(), strict=False)
    accuracies: tuple[float, ...] = Field(default=(), strict=False)
    error: Text = ""
    is_retryable: bool = False


_M = TypeVar("_M", bound=_Message)


def parse_job(wire: object) -> InnerLoopJob:
    """Check a received job.

    Raises:
        ProtocolMismatchError: the sender speaks another version.
        ContractError: a field is missing, unknown, of the wrong type or out of range.
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
        raise ContractError(
            f"{message.__name__}.{field}={first['input']!r:.80}: {first['msg']}; "
            "the sender is not a metafleet of this version"
        ) from error
