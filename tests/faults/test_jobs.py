"""Jobs that kill their workers, and workers of another version."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.errors import NumericsError, ShardQuarantinedError
from tests.fleet import ROOT, Fleet, wait_until
from tests.running import EXPERIMENT, ONE_SHARD, ROWS, Row, Running
from tests.runs import config, read_run


@pytest.fixture
def poisoned(fleet: Fleet) -> Iterator[Fleet]:
    """A pool whose child may die: the parent starts another."""
    fleet.settings = replace(fleet.settings, allowed_packages=("tests",))
    fleet.start(1, "--pool", "prefork", "--concurrency", "1")
    yield fleet


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("exit", "its worker died or hung"),
        pytest.param(
            "segfault",
            "its worker died or hung",
            marks=pytest.mark.slow("the path of exit, after another signal"),
        ),
        ("memory", "MemoryError: cannot allocate 4 TB"),
    ],
)
def test_a_poison_job(poisoned: Fleet, way: str, reason: str) -> None:
    learner = {"name": "tests.faults.poison:Poison", "way": way}
    experiment = ONE_SHARD.model_copy(update={"learner": learner})
    running = Running(poisoned.settings, experiment)

    with pytest.raises(ShardQuarantinedError, match=f"failed 3 times .*{reason}"):
        running.result()

    assert read_run(poisoned.settings, running.run).status.value == "failed"
    ROWS.append(Row(f"poison job: {way}", "quarantined after 3 attempts, reason named", None, None))


def test_a_loss_that_is_not_finite(poisoned: Fleet) -> None:
    learner = {"name": "tests.faults.poison:Poison", "way": "nan"}
    running = Running(poisoned.settings, ONE_SHARD.model_copy(update={"learner": learner}))

    with pytest.raises(NumericsError, match=r"train step 1.*query loss is nan"):
        running.result()

    ROWS.append(Row("loss becomes NaN", "stopped at once, step and reason named", None, None))


def test_a_worker_of_another_version(fleet: Fleet, expected: str) -> None:
    site = fleet.settings.home / "newer"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "import metafleet.contracts.job\nmetafleet.contracts.job.PROTOCOL_VERSION = 99\n"
    )
    fleet.start(1, environment={"PYTHONPATH": str(site)})
    running = Running(fleet.settings, config(**_experiment()))
    wait_until(lambda: running.watcher.notices, "the notice that a worker cannot be used")
    assert "protocol 99" in running.watcher.notices[0]
    assert f"protocol {PROTOCOL_VERSION}" in running.watcher.notices[0]

    running.disturb(lambda: fleet.start(1), after_step=0)

    running.assert_undisturbed(
        expected, "worker of another version", "both versions named, it gets no jobs"
    )
    assert not any(step.retries for step in running.watcher.steps)


def test_workers_with_another_signing_key_and_with_none(fleet: Fleet, expected: str) -> None:
    ours = fleet.settings
    for signing_key in ("another-key", ""):
        fleet.settings = replace(ours, signing_key=signing_key)
        fleet.start(1)
    fleet.settings = ours
    fleet.start(1)

    running = Running(ours)

    running.assert_undisturbed(
        expected, "workers with a wrong key, and with none", "named, with the setting; no jobs"
    )
    assert not any(step.retries for step in running.watcher.steps)
    notices = "\n".join(running.watcher.notices)
    assert "cpu0@test has another signing key than this orchestrator" in notices
    assert "cpu1@test has no signing key and this orchestrator has one" in notices
    assert "METAFLEET_SIGNING_KEY" in notices
    assert not {"another-key", ours.signing_key} & set(notices.split())


def test_a_worker_with_a_signing_key_and_an_orchestrator_without(fleet: Fleet) -> None:
    keyed = fleet.settings
    fleet.start(1)
    fleet.settings = replace(keyed, signing_key="")
    fleet.start(1)

    running = Running(fleet.settings, EXPERIMENT)

    running.result()
    assert not any(step.retries for step in running.watcher.steps)
    assert (
        "cpu0@test has a signing key and this orchestrator has none" in running.watcher.notices[0]
    )


def _experiment() -> dict[str, dict[str, object]]:
    tree = EXPERIMENT.to_json()
    return {name: tree[name] for name in ("outer", "learner", "validation", "test")}
