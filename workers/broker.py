"""A Redis transport for Celery that survives foreign messages in a queue, and failovers."""

import functools
import logging
import time
from typing import Any, Final

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from metafleet.contracts.foreign import drop_foreign
from metafleet.contracts.job import INNER_LOOP
from metafleet.contracts.milestones import Milestones
from metafleet.contracts.refusals import code_of, refusal
from metafleet.contracts.task_message import plain_message
from metafleet.errors import ContractError

log = logging.getLogger(__name__)

_REFUSED_PAUSE_S: Final = 0.5


def use() -> None:
    """Make Celery use this module's transport for Redis in this process."""
    own = f"{__name__}:Transport"
    TRANSPORT_ALIASES.update({"redis": own, "rediss": own})


_DROPPED: Final = Milestones()


def _tell_of_junk(kind: str, queue: str, raw: bytes) -> None:
    """Log the first, tenth, hundredth, ... entry of a kind that is not a job."""
    n = _DROPPED.count(kind)
    if n == 1:
        log.warning("%s held an entry that is not a job (%s): %.80r; dropped it", queue, kind, raw)
    elif n:
        log.warning("%s held entries that are not jobs (%s): dropped %d so far", queue, kind, n)


class _Client(kombu_redis.PrefixedStrictRedis):
    """kombu's client, restricted to jobs: it drops all other messages."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        parse: Any = super().parse_response
        answer = parse(connection, command_name, **options)
        if command_name != "BRPOP" or not answer:
            return answer
        key, raw = answer
        queue = key.decode(errors="replace")
        try:
            return key, plain_message(raw, INNER_LOOP, queue=queue)
        except ContractError as error:
            _tell_of_junk(str(error), queue, raw)
            return None  # as if the wait had timed out


class Channel(kombu_redis.Channel):
    """kombu's channel, which treats a refusal as a lost connection and reconnects."""

    def _get_client(self) -> Any:
        return functools.partial(_Client, global_keyprefix=self.global_keyprefix)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if code_of(error) == "WRONGTYPE":
                self._drop_what_is_no_queue()
            self.client.connection.disconnect()
            time.sleep(_REFUSED_PAUSE_S)
            told = refusal(self.connection.client.as_uri(), error)
            raise redis.ConnectionError(str(told)) from error

    def _drop_what_is_no_queue(self) -> None:
        names = {f"{self.global_keyprefix}{queue}": "list" for queue in self.active_queues}
        for name, kind in drop_foreign(redis.Redis(connection_pool=self.pool), names).items():
            _tell_of_junk(f"a {kind} in place of the queue", name, b"")


class Transport(kombu_redis.Transport):
    """kombu's transport with our channel."""

    Channel = Channel
