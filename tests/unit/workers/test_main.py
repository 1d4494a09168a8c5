"""The command line that `python -m metafleet.workers` gives to Celery."""

import argparse
import os

import pytest
from celery.bin.worker import worker as celery_worker

from metafleet.workers.__main__ import worker_arguments


def options(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"name": None, "concurrency": None, "pool": None} | given)


def chosen(device: str, **given: object) -> dict[str, str]:
    words = worker_arguments(options(**given), device=device)
    assert words[:4] == ["celery", "-A", "metafleet.workers.app", "worker"]
    assert {"--without-gossip", "--without-mingle"} <= set(words)
    known = {name for parameter in celery_worker.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    return {
        name: words[words.index(name) + 1] for name in ("--hostname", "--pool", "--concurrency")
    }


def test_on_processors_it_has_a_process_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)

    made = chosen("cpu")

    assert (made["--pool"], made["--concurrency"]) == ("prefork", "8")
    assert made["--hostname"] == f"cpu-{os.getpid()}@%h"


def test_on_a_gpu_and_for_one_job_at_a_time_it_is_one_process() -> None:
    for made in (chosen("cuda"), chosen("cpu", concurrency=1)):
        assert (made["--pool"], made["--concurrency"]) == ("solo", "1")


def test_an_explicit_choice_is_taken() -> None:
    made = chosen("cpu", name="mine", concurrency=1, pool="prefork")

    assert made == {"--hostname": "mine@%h", "--pool": "prefork", "--concurrency": "1"}
