"""Which queues a worker listens to: those asked for, else the one of its device."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from celery import signals

from metafleet.contracts.celery_app import make_app
from metafleet.contracts.job import INNER_LOOP
from metafleet.contracts.settings import Settings
from metafleet.errors import ConfigError
from metafleet.workers import lifecycle, tasks


def queues_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, home: Path, device: str, asked: Sequence[str]
) -> set[str]:
    """Start as Celery does: queues of ``-Q`` first, then the signal."""
    monkeypatch.setattr(lifecycle, "resolve_device", lambda requested: device)
    for signal in (
        signals.celeryd_after_setup,
        signals.worker_process_init,
        signals.worker_ready,
        signals.worker_shutdown,
    ):
        monkeypatch.setattr(signal, "receivers", [])
    app = make_app("memory://")
    if asked:
        app.amqp.queues.select(asked)
    started = lifecycle.Lifecycle(app, Settings.load({"METAFLEET_HOME": str(home)}))
    started.connect()

    signals.celeryd_after_setup.send(sender="worker", instance=None, conf=app.conf)

    return set(started.queues)


@pytest.mark.parametrize(
    ("device", "asked", "wanted"),
    [
        ("cpu", [], {"inner.cpu"}),
        ("cuda", [], {"inner.gpu"}),
        ("cpu", ["inner.cpu"], {"inner.cpu"}),
        ("cuda", ["inner.gpu"], {"inner.gpu"}),
        ("cuda", ["inner.cpu"], {"inner.cpu"}),
    ],
)
def test_a_worker_listens_to_what_it_was_told_or_to_its_devices_queue(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    device: str,
    asked: Sequence[str],
    wanted: set[str],
) -> None:
    assert queues_of_a_worker(monkeypatch, tmp_path, device, asked) == wanted


def test_a_gpu_that_is_not_there_is_said_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    settings = Settings.load({"METAFLEET_HOME": str(tmp_path), "METAFLEET_DEVICE": "cuda"})

    with pytest.raises(ConfigError, match="torch sees no GPU"):
        lifecycle.Lifecycle(make_app("memory://"), settings)


def test_the_app_takes_json_alone_and_keeps_no_results() -> None:
    conf = make_app("memory://").conf

    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert conf.task_ignore_result
    assert conf.result_backend is None
    assert all(queue.no_ack for queue in conf.task_queues)
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_enable_remote_control is False


def test_only_one_task_can_be_asked_for() -> None:
    app = make_app("memory://")
    app.finalize()

    assert [name for name in app.tasks if not name.startswith("celery.")] == [INNER_LOOP]
    assert tasks.inner_loop.name == INNER_LOOP
