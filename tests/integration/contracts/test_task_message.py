"""Messages of our own making: the same that Celery would have sent."""

import base64
import json
from typing import Any

import pytest

from metafleet.contracts.celery_app import make_app
from metafleet.contracts.connections import connect
from metafleet.contracts.keys import queue_list, queue_name
from metafleet.contracts.task_message import plain_message, task_message
from metafleet.errors import SchemaError
from tests.redis_server import RedisServer

KEY, QUEUE = "test-key", "inner.gpu"
ARGUMENT = {"run": "r", "losses": [0.1, 1e-7], "text": "é"}


def unpacked(raw: Any) -> dict[str, Any]:
    """What a message says, without what is random, or repeated, or of no use to us."""
    message = json.loads(raw)
    message["body"] = json.loads(base64.b64decode(message["body"]))
    properties = message["properties"]
    assert properties.pop("delivery_tag")
    properties.pop("reply_to")  # there are no replies
    properties.pop("argsrepr", None)  # is a header
    properties.pop("kwargsrepr", None)
    return dict(message)


def test_a_message_is_what_celery_would_have_sent(standing_redis: RedisServer) -> None:
    app = make_app(standing_redis.url, KEY)
    app.send_task(
        "a.task",
        args=(ARGUMENT,),
        queue=QUEUE,
        task_id="run.train.0",
        ignore_result=True,
        argsrepr="run=r",
        kwargsrepr="",
    )
    with connect(standing_redis.url) as client:
        theirs = unpacked(client.rpop(queue_list(QUEUE, KEY)))
    app.close()

    name = queue_name(QUEUE, KEY)
    ours = task_message(app, "a.task", ARGUMENT, task_id="run.train.0", queue=name, label="run=r")

    assert unpacked(ours) == theirs


@pytest.mark.parametrize("value", [b"NaN", b"1e999", b"-Infinity"])
def test_a_call_whose_argument_cannot_be_written_again_is_refused(value: bytes) -> None:
    body = base64.b64encode(b'[[{"a": ' + value + b"}],{},{}]").decode()
    raw = json.dumps({"body": body, "headers": {"task": "a.task", "id": "1"}}).encode()

    with pytest.raises(SchemaError, match="no job in its body"):
        plain_message(raw, "a.task", queue=QUEUE)


@pytest.mark.parametrize(("levels", "is_call"), [(100, True), (101, False), (400, False)])
def test_an_argument_of_too_many_levels_is_no_call(levels: int, is_call: bool) -> None:
    argument = '{"a": ' * levels + "1" + "}" * levels
    body = base64.b64encode(f"[[{argument}],{{}},{{}}]".encode()).decode()
    raw = json.dumps({"body": body, "headers": {"task": "a.task", "id": "1"}}).encode()

    if is_call:
        assert unpacked(plain_message(raw, "a.task", queue=QUEUE))["body"][0] == [
            json.loads(argument)
        ]
    else:
        with pytest.raises(SchemaError, match="no job in its body"):
            plain_message(raw, "a.task", queue=QUEUE)
