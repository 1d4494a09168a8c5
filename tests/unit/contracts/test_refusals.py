"""What a server's refusal means, by redis-py's own classes and by what it leaves in the text.

Refusals that a server can be brought to are in tests/integration/contracts/test_refusals.py.
"""

import pytest
from redis._parsers.base import BaseParser

from metafleet.contracts.connections import redis_errors
from metafleet.contracts.refusals import PASSING, code_of
from metafleet.errors import BrokerUnavailableError, ConfigError, FleetError, ForeignDataError

REPLIES = {
    "ASK": "ASK 3999 127.0.0.1:6381",
    "BUSY": "BUSY Redis is busy running a script.",
    "CLUSTERDOWN": "CLUSTERDOWN Hash slot not served",
    "EXECABORT": "EXECABORT Transaction discarded because of previous errors.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots",
    "MOVED": "MOVED 3999 127.0.0.1:6381",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED": "UNBLOCKED force unblock from blocking operation, instance state changed",
}


@pytest.mark.parametrize("code", sorted(PASSING))
def test_a_state_that_passes_is_waited_for(code: str) -> None:
    error = BaseParser.parse_error(REPLIES[code])

    assert code_of(error) == code
    words = f"redis://h:1 .*{code}"
    with pytest.raises(BrokerUnavailableError, match=words), redis_errors("redis://h:1"):
        raise error


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("NOPERM this user has no permissions to run the 'evalsha' command", ConfigError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", ForeignDataError),
        ("ERR unknown command 'LMOVE'", FleetError),
        ("READ", FleetError),
    ],
)
def test_a_refusal_that_does_not_pass_has_its_own_error(
    reply: str, expected: type[Exception]
) -> None:
    with pytest.raises(expected, match=reply[-10:]), redis_errors("redis://h:1"):
        raise BaseParser.parse_error(reply)


def test_script_errors_of_redis_6_are_recognised() -> None:
    text = (
        "ERR Error running script (call to f_1b): @user_script:4: @user_script: 4: -READONLY You "
        "can't write against a read only replica."
    )

    assert code_of(BaseParser.parse_error(text)) == "READONLY"
