"""The promise: the same configuration and seed end with the same bits, on any set of workers."""

import signal
from dataclasses import replace

import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import RunKeys
from tests.fleet import Fleet, wait_until
from tests.runs import (
    InterruptAt,
    assert_every_shard_once,
    config,
    end_lease,
    execute,
    new_run,
    read_run,
    sigkill,
    start_orchestrator,
    undisturbed,
)


def test_one_worker_three_workers_and_this_process_agree(fleet: Fleet) -> None:
    experiment = config()
    expected = undisturbed(fleet.settings, experiment)

    fleet.start(1)
    alone = execute(fleet.settings, new_run(fleet.settings, experiment))
    fleet.start(2)
    run = new_run(fleet.settings, experiment)
    together = execute(fleet.settings, run)

    assert alone.checkpoint_sha256 == together.checkpoint_sha256 == expected
    assert len(alone.workers) == 1
    assert len(together.workers) > 1
    assert_every_shard_once(fleet.settings, run, steps=12, shards=4)


def test_sums_over_the_names_of_a_state_have_the_same_bits_in_a_fleet_and_in_process(
    fleet: Fleet,
) -> None:
    # a package of the user's: its learner adds up over names as they come
    fleet.settings = replace(fleet.settings, allowed_packages=("tests",))
    learner = {
        "name": "tests.integration.orchestrator.engine.shared_rate:SharedRate",
        "inner_lr": 0.01,
    }
    experiment = config(learner=learner, model={"hidden": [16, 16, 16]})
    expected = undisturbed(fleet.settings, experiment)

    fleet.start(2)
    report = execute(fleet.settings, new_run(fleet.settings, experiment))

    assert report.checkpoint_sha256 == expected
    assert len(report.workers) > 0


def test_a_pipelined_run_has_bits_of_its_own_and_the_same_in_every_fleet(fleet: Fleet) -> None:
    experiments = {n: config(engine={"max_staleness": n}) for n in (0, 1, 2)}
    expected = {n: undisturbed(fleet.settings, e) for n, e in experiments.items()}

    assert len(set(expected.values())) == 3
    fleet.start(1)
    alone = execute(fleet.settings, new_run(fleet.settings, experiments[2]))
    fleet.start(2)
    run = new_run(fleet.settings, experiments[2])
    together = execute(fleet.settings, run)

    assert alone.checkpoint_sha256 == together.checkpoint_sha256 == expected[2]
    assert_every_shard_once(fleet.settings, run, steps=12, shards=4)


def test_another_seed_ends_elsewhere(standing_fleet: Fleet) -> None:
    settings = standing_fleet.settings
    first, second = config(), config().with_seed(4)

    hashes = {execute(settings, new_run(settings, c)).checkpoint_sha256 for c in (first, second)}

    assert len(hashes) == 2


MORE_OF_THE_SAME = pytest.mark.slow("other steps of the same path")


@pytest.mark.parametrize(
    ("kill_at_step", "max_staleness"),
    [
        (1, 0),
        (7, 0),
        (6, 2),
        pytest.param(4, 0, marks=MORE_OF_THE_SAME),
        pytest.param(11, 0, marks=MORE_OF_THE_SAME),
        pytest.param(1, 2, marks=MORE_OF_THE_SAME),
        pytest.param(10, 2, marks=MORE_OF_THE_SAME),
    ],
)
def test_an_orchestrator_killed_at_any_step_goes_on_to_the_same_bits(
    standing_fleet: Fleet, kill_at_step: int, max_staleness: int
) -> None:
    settings = standing_fleet.settings
    # far more steps than the one it is killed at: on a busy machine it goes on for a while
    experiment = config(outer={"steps": 50}, engine={"max_staleness": max_staleness})
    expected = undisturbed(settings, experiment)
    run = new_run(settings, experiment)
    victim = start_orchestrator(settings, run)
    wait_until(
        lambda: read_run(settings, run).steps_done >= kill_at_step or victim.poll() is not None,
        f"step {kill_at_step}",
        60,
    )
    sigkill(victim)
    assert victim.returncode == -signal.SIGKILL, "it had ended before it was killed"
    assert read_run(settings, run).status.value == "running"

    if kill_at_step == 1:
        wait_until(lambda: _lease_is_over(standing_fleet, run.uid), "the dead owner's lease", 20)
    else:
        end_lease(settings, run)
    report = execute(settings, run)

    assert report.checkpoint_sha256 == expected
    assert_every_shard_once(settings, run, steps=50, shards=4)
    assert read_run(settings, run).status.value == "finished"


def test_a_run_begun_in_this_process_goes_on_over_the_fleet(standing_fleet: Fleet) -> None:
    settings = standing_fleet.settings
    experiment = config()
    run = new_run(settings, experiment)
    watcher = InterruptAt(6)

    with pytest.raises(KeyboardInterrupt):
        execute(settings, run, in_process=True, watcher=watcher)
    assert read_run(settings, run).status.value == "interrupted"
    report = execute(settings, run)

    assert report.checkpoint_sha256 == undisturbed(settings, experiment)


def _lease_is_over(fleet: Fleet, uid: str) -> bool:
    with connect(str(fleet.settings.broker_url)) as client:
        return client.exists(RunKeys(uid).lease) == 0
