"""Celery's way to Redis, made to outlive what else may lie in a queue, and failovers."""

import functools
import logging
import time
from collections import Counter
from typing import Any, Final

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from metafleet.contracts.foreign import drop_foreign
from metafleet.contracts.job import INNER_LOOP
from metafleet.contracts.refusals import code_of, refusal
from metafleet.contracts.task_message import plain_message
from metafleet.errors import ContractError

log = logging.getLogger(__name__)

_REFUSED_PAUSE_S: Final = 0.5


def use() -> None:
    """Let Celery reach Redis by this module, in this process."""
    own = f"{__name__}:Transport"
    TRANSPORT_ALIASES.update({"redis": own, "rediss": own})


class Junk:
    """Counts what was in a queue and was no job; the log has the first of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def note(self, kind: str, queue: str, raw: bytes) -> None:
        """Count an entry, and tell of the first, the tenth, the hundredth, ... of its kind."""
        self.counts[kind] += 1
        n = self.counts[kind]
        if n == 1:
            log.warning("%s held what is no job (%s): %.80r; dropped it", queue, kind, raw)
        elif str(n).rstrip("0") == "1":
            log.warning("%s held what is no job (%s): dropped %d by now", queue, kind, n)


JUNK: Final = Junk()
"""Of this process."""


class _Client(kombu_redis.PrefixedStrictRedis):
    """kombu's client, that lets nothing but jobs through."""

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
            JUNK.note(str(error), queue, raw)
            return None  # as if the wait had ended without a message


class Channel(kombu_redis.Channel):
    """kombu's channel, for which a refusal is a connection that is lost: it is made again."""

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
            JUNK.note(f"a {kind} in place of the queue", name, b"")


class Transport(kombu_redis.Transport):
    """kombu's transport with that channel."""

    Channel = Channel
