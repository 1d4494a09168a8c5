"""Names of all keys in Redis. Every key has a TTL.

The run's uid is in braces, so that all keys of one run hash to the same slot. On a Redis cluster, a
Lua script may access several keys only if they are in the same slot.
"""

from dataclasses import dataclass

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.signing_key import key_id

KEY_PREFIX = "mf:"
WORKERS_SEEN = f"{KEY_PREFIX}workers:seen"
WORKERS_INFO = f"{KEY_PREFIX}workers:info"
QUEUES_STARTED = f"{KEY_PREFIX}queues:started"
DEMAND = f"{KEY_PREFIX}demand"
"""Hash run -> its open shards, and when they were counted."""


def queue_of(device: str) -> str:
    """Return the Celery queue for workers on ``device``, "cpu" or "cuda"."""
    return "inner.gpu" if device == "cuda" else "inner.cpu"


def queue_name(queue: str, signing_key: str) -> str:
    """Return a queue's name in Celery and Flower, with protocol version and signing key's id.

    A worker with another version or key cannot use our messages. The queues of that worker have
    other names, so that worker does not receive our messages.
    """
    return f"{queue}.v{PROTOCOL_VERSION}-{key_id(signing_key)}"


def queue_list(queue: str, signing_key: str) -> str:
    """Return the name of the Redis list behind a Celery queue."""
    return f"{KEY_PREFIX}{queue_name(queue, signing_key)}"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run, by uid."""

    run: str

    @property
    def _root(self) -> str:
        return f"{KEY_PREFIX}{{{self.run}}}"

    @property
    def epoch(self) -> str:
        """Fencing epoch, which grows with every takeover."""
        return f"{self._root}:epoch"

    @property
    def holder(self) -> str:
        """The owner that began that epoch. Has the same TTL."""
        return f"{self._root}:holder"

    @property
    def lease(self) -> str:
        """Owner of the run, as long as it renews this lease."""
        return f"{self._root}:lease"

    @property
    def discarded(self) -> str:
        """Hash of attempts dropped or finished late: attempt, outcome and reason -> worker."""
        return f"{self._root}:dropped"

    @property
    def logs(self) -> str:
        """Hash attempt -> its log lines, until the orchestrator takes them."""
        return f"{self._root}:logs"

    def plan(self, digest: str) -> str:
        """Return the key of the blob that describes the run's work."""
        return f"{self._root}:plan:{digest}"

    def state(self, digest: str) -> str:
        """Return the key of the blob with one version of the meta-learned state."""
        return f"{self._root}:state:{digest}"

    def data(self, sha256: str, file: str, piece: int) -> str:
        """Return the key of the blob with a piece of a file of prepared data."""
        return f"{self._root}:data:{sha256}:{file}:{piece}"

    def closed(self, stream: str, *, epoch: int) -> str:
        """Return the key for the number of the last closed step of a stream.

        Like all keys of a step, this key contains the epoch. Without the epoch, the keys of two
        orchestrators could collide: an orchestrator that continues from a checkpoint opens steps
        that its predecessor had already closed or left unfinished.
        """
        return f"{self._root}:{stream}:e{epoch}:closed"

    def step(self, stream: str, step: int, *, epoch: int) -> "StepKeys":
        """Return the keys of one step."""
        root = f"{self._root}:{stream}:e{epoch}:{step}"
        return StepKeys(root, step, self.closed(stream, epoch=epoch))


@dataclass(frozen=True, slots=True)
class StepKeys:
    """The keys of a step. Except for ``closed``, they exist only while the step is open.

    Attributes:
        root: prefix of these keys.
        number: the step's number.
        closed: key for the number of the stream's last closed step.
    """

    root: str
    number: int
    closed: str

    @property
    def started(self) -> str:
        """Hash "shard:attempt" -> the worker that started it. An attempt starts at most once."""
        return f"{self.root}:started"

    @property
    def done(self) -> str:
        """Hash shard -> the committed result. The first commit wins."""
        return f"{self.root}:done"

    @property
    def replies(self) -> str:
        """List of committed results that wakes the orchestrator. ``done`` is authoritative."""
        return f"{self.root}:replies"

    def lease(self, shard: int, attempt: int) -> str:
        """Return the key of the lease that a worker renews while it computes an attempt."""
        return f"{self.root}:lease:{shard}:{attempt}"

    @property
    def blob_prefix(self) -> str:
        """Prefix of the names of the step's blobs."""
        return f"{self.root}:blob:"

    def blob(self, shard: int, attempt: int) -> str:
        """Return the key of the blob with an attempt's summed gradient."""
        return f"{self.blob_prefix}{shard}:{attempt}"
