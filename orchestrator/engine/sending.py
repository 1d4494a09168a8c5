"""When and where an attempt was sent."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sending:
    """The sending of one attempt.

    Attributes:
        queue: the queue to which the attempt was sent.
        sent_us: when it was sent, in microseconds of Redis's clock.
        sent_s: the same moment by the monotonic clock of this process, in seconds.
    """

    queue: str
    sent_us: int
    sent_s: float = field(default_factory=time.monotonic)

    @property
    def age_s(self) -> float:
        """Seconds since the attempt was sent."""
        return time.monotonic() - self.sent_s
