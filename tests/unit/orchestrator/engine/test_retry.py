"""Which errors are waited out, and the notices about them."""

import pytest

from metafleet.errors import BrokerUnavailableError, DatabaseUnavailableError, MetafleetError
from metafleet.orchestrator.engine.retry import Retry


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BrokerUnavailableError("Redis is gone"), "Redis is back: going on"),
        # a new epoch, which a Redis that came back empty asks for, is counted in the database
        (DatabaseUnavailableError("the database is gone"), "the database is back: going on"),
    ],
)
def test_an_unreachable_server_is_awaited_and_reported_once(
    error: MetafleetError, told: str
) -> None:
    notices: list[str] = []
    answers = [error, error]

    def call() -> str:
        if answers:
            raise answers.pop()
        return "done"

    retry = Retry("redis://x", notify=notices.append, check=lambda: None)

    assert retry.persist(call) == "done"
    assert notices == [f"waiting: {error}", told]
    assert retry.waited_s > 0
