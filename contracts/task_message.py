"""A Celery task as the text that kombu keeps in a Redis list, so that many can be sent at once.

``Celery.send_task`` costs a round trip and half a millisecond for each task. What it leaves in the
list is Celery's message protocol 2 in kombu's envelope; a test holds ours to it, key by key.
"""

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

from celery import Celery


def task_message(
    app: Celery, task: str, argument: Mapping[str, Any], *, task_id: str, queue: str, label: str
) -> bytes:
    """Write one call of ``task`` with one argument.

    Args:
        app: whose protocol is spoken.
        task: name of the task.
        argument: its only argument, JSON values.
        task_id: names the message; unique.
        queue: the queue it is for.
        label: what Flower shows in place of the argument.
    """
    # no ``expires``: workers compare it with their own clocks, and a stale message costs one look
    # at the ledger
    headers, properties, body, _ = app.amqp.as_task_v2(
        *(task_id, task, (argument,)), ignore_result=True, argsrepr=label, kwargsrepr=""
    )
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
