"""Names of everything kept in Redis; every key has a TTL.

The run's uid stands in braces, so that all keys of one run hash to one slot and a Lua script may
touch several of them on a Redis cluster too.
"""

from dataclasses import dataclass

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.signing_key import key_id

KEY_PREFIX = "mf:"
WORKERS_SEEN = f"{KEY_PREFIX}workers:seen"
WORKERS_INFO = f"{KEY_PREFIX}workers:info"
QUEUES_STARTED = f"{KEY_PREFIX}queues:started"


def queue_of(device: str) -> str:
    """Name the Celery queue whose workers compute on ``device``: "cpu" or "cuda"."""
    return "inner.gpu" if device == "cuda" else "inner.cpu"


def queue_name(queue: str, signing_key: str) -> str:
    """Name a queue as Celery and Flower know it: apart by protocol version and signing key.

    A worker of another version, or with another key, would have to drop what it took: so it listens
    to another queue, and takes nothing.
    """
    return f"{queue}.v{PROTOCOL_VERSION}-{key_id(signing_key)}"


def queue_list(queue: str, signing_key: str) -> str:
    """Name the Redis list behind a Celery queue."""
    return f"{KEY_PREFIX}{queue_name(queue, signing_key)}"


@dataclass(frozen=True, slots=True)
class RunKeys:
    """Keys that belong to one run, by uid."""

    run: str

    @property
    def _root(self) -> str:
        return f"{KEY_PREFIX}{{{self.run}}}"

    @property
    def epoch(self) -> str:
        """Fencing epoch; grows at every take-over."""
        return f"{self._root}:epoch"

    @property
    def holder(self) -> str:
        """Who began that epoch; kept as long."""
        return f"{self._root}:holder"

    @property
    def lease(self) -> str:
        """Owner of the run, while it renews."""
        return f"{self._root}:lease"

    @property
    def discarded(self) -> str:
        """Hash of what workers dropped or were late with: who, by attempt, outcome and reason."""
        return f"{self._root}:dropped"

    def plan(self, digest: str) -> str:
        """Name the blob that describes the run's work."""
        return f"{self._root}:plan:{digest}"

    def state(self, digest: str) -> str:
        """Name the blob that holds one version of the meta-learned state."""
        return f"{self._root}:state:{digest}"

    def closed(self, stream: str, *, epoch: int) -> str:
        """Name the number of the last closed step of a stream.

        By epoch, like all that belongs to a step: an orchestrator that goes on from a checkpoint
        opens steps again that its predecessor had closed, or had left half done.
        """
        return f"{self._root}:{stream}:e{epoch}:closed"

    def step(self, stream: str, step: int, *, epoch: int) -> "StepKeys":
        """Name the keys of one step."""
        root = f"{self._root}:{stream}:e{epoch}:{step}"
        return StepKeys(root, step, self.closed(stream, epoch=epoch))


@dataclass(frozen=True, slots=True)
class StepKeys:
    """Keys that live as long as one step is open.

    Attributes:
        root: what the names of all of them begin with.
        number: of the step.
        closed: key of the number of the stream's last closed step, which outlives the step.
    """

    root: str
    number: int
    closed: str

    @property
    def started(self) -> str:
        """Hash "shard:attempt" -> who started it; an attempt starts at most once."""
        return f"{self.root}:started"

    @property
    def done(self) -> str:
        """Hash shard -> the committed result; the first commit wins."""
        return f"{self.root}:done"

    @property
    def replies(self) -> str:
        """List of committed results, to be waited on; ``done`` is the truth."""
        return f"{self.root}:replies"

    def lease(self, shard: int, attempt: int) -> str:
        """Name the lease that a worker renews while it computes an attempt."""
        return f"{self.root}:lease:{shard}:{attempt}"

    @property
    def blob_prefix(self) -> str:
        """What the name of every blob of the step begins with."""
        return f"{self.root}:blob:"

    def blob(self, shard: int, attempt: int) -> str:
        """Name the blob that holds an attempt's summed gradient."""
        return f"{self.blob_prefix}{shard}:{attempt}"
