"""Checks that Redis answers before a server takes work that needs it."""

from metafleet.contracts.connections import connect, redis_errors


def require_answer(url: str) -> None:
    """Raise if Redis does not answer: a run taken now could not begin.

    Raises:
        BrokerUnavailableError: Redis does not answer.
    """
    with redis_errors(url), connect(url, socket_timeout_s=1.0, retries=0) as client:
        client.ping()
