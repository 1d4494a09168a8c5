"""Messages about trackers have no passwords."""

import pytest

from metafleet.tracking.live import one_line
from metafleet.tracking.targets import shown_target


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("mlflow:http://me:geheim@host:5000", "mlflow:http://me:***@host:5000"),
        ("mlflow:postgresql://me:ge@heim@host/d", "mlflow:postgresql://me:***@host/d"),
        ("mlflow:sqlite:///d?password=geheim", "mlflow:sqlite:///d?password=***"),
        ("mlflow:https://hf_geheim@host/d", "mlflow:https://***@host/d"),
        ("mlflow:postgresql://me@host/d", "mlflow:postgresql://me@host/d"),
        ("jsonl:/logs", "jsonl:/logs"),
    ],
)
def test_a_target_is_shown_without_its_password(target: str, shown: str) -> None:

    assert shown_target(target) == shown


def test_an_error_of_a_library_is_one_line_without_passwords() -> None:
    error = ValueError("cannot parse\n'postgresql://me:geheim@host:x/d'")
    assert one_line(error) == "cannot parse 'postgresql://me:***@host:x/d'"
    error = ValueError("no answer from https://hf_geheim@host/d")
    assert one_line(error) == "no answer from https://***@host/d"
