"""Encodes Celery tasks in the form that kombu keeps in a Redis list, to send many tasks at once.

``Celery.send_task`` costs a round trip and half a millisecond for each task. The messages of
``send_task`` have Celery's protocol 2 and kombu's envelope. A test compares our messages with the
messages of ``send_task``, key by key.
"""

import base64
import contextlib
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from celery import Celery

from metafleet.digests import is_deep
from metafleet.errors import OversizedError, SchemaError

MOST_BYTES: Final = 4 * 2**20
"""Length of the longest message that is parsed."""

_PLAIN_HEADERS: Final = {
    **{"lang": "py", "shadow": None, "eta": None, "expires": None, "group": None},
    **{"group_index": None, "retries": 0, "timelimit": [None, None], "parent_id": None},
    **{"kwargsrepr": "", "ignore_result": True, "replaced_task_nesting": 0},
    **{"stamped_headers": None, "stamps": {}},
}
_NO_MORE_TASKS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def task_message(
    app: Celery, task: str, argument: Mapping[str, Any], *, task_id: str, queue: str, label: str
) -> bytes:
    """Encode a call of ``task`` with one argument.

    Args:
        app: the app whose protocol to use.
        task: name of the task.
        argument: the task's only argument, as JSON values.
        task_id: unique name of the message.
        queue: the queue to which the message will be sent.
        label: text that Flower shows in place of the argument.
    """
    # no ``expires``: workers compare it with their own clocks, and a stale message only costs one
    # lookup in the ledger
    headers, properties, body, _ = app.amqp.as_task_v2(
        task_id, task, (argument,), ignore_result=True, argsrepr=label, kwargsrepr=""
    )
    return _packed(headers, properties, body, queue)


def plain_message(raw: bytes, task: str, *, queue: str) -> bytes:
    """Extract the call of ``task`` from ``raw`` and encode it as ``task_message`` does.

    Anyone with the broker's password can put anything into a queue. Some messages would crash
    Celery and kombu. Others would make Celery and kombu do more than call the task. Therefore only
    the call is passed on.

    Raises:
        OversizedError, SchemaError: the message is not a call of ``task`` with one argument.
    """
    if len(raw) > MOST_BYTES:
        raise OversizedError(f"more than {MOST_BYTES} bytes")
    envelope = _json(raw, "no JSON")
    headers = _entry(envelope, "headers")
    task_id, label = _entry(headers, "id"), _entry(headers, "argsrepr", "")
    if _entry(headers, "task") != task:
        raise SchemaError("no call of our task")
    if not isinstance(task_id, str) or not isinstance(label, str):
        raise SchemaError("no names in its headers")
    try:
        text = base64.b64decode(_entry(envelope, "body"), validate=True)
    except (ValueError, TypeError):
        raise SchemaError("no base64 in its body") from None
    match _json(text, "no JSON in its body"):
        case [[dict(argument)], {**keywords}, _] if not keywords and not is_deep(argument):
            own = {**_PLAIN_HEADERS, "task": task, "id": task_id, "root_id": task_id}
            own |= {"argsrepr": label, "origin": ""}
            properties = {"correlation_id": task_id, "reply_to": ""}
            with contextlib.suppress(ValueError):  # 1e999 cannot be encoded again
                return _packed(own, properties, ([argument], {}, _NO_MORE_TASKS), queue)
    raise SchemaError("no job in its body")


def _json(raw: bytes, problem: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise SchemaError(problem) from None


def _entry(found: object, name: str, default: object = None) -> Any:
    return found.get(name, default) if isinstance(found, dict) else None


def _packed(headers: Any, properties: Mapping[str, Any], body: Any, queue: str) -> bytes:
    envelope = {
        "body": base64.b64encode(json.dumps(body, allow_nan=False).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            **properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    return json.dumps(envelope).encode()
