"""Rows as JSON lines, which any reader of JSON can read."""

import json
from datetime import UTC, datetime

from metafleet.tracking.files import json_lines


def test_numbers_that_json_lacks_are_null() -> None:
    row = {"loss": float("nan"), "more": {"norms": [float("inf"), 0.5, (float("-inf"), 2)]}}
    moment = {"step": 1, "at": datetime(2026, 1, 1, tzinfo=UTC), "done": True}
    first, second = json_lines([row, moment])

    assert json.loads(first) == {"loss": None, "more": {"norms": [None, 0.5, [None, 2]]}}
    assert second == '{"step": 1, "at": "2026-01-01T00:00:00+00:00", "done": true}\n'
