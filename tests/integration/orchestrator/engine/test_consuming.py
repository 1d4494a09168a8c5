"""A worker takes only messages that a free child can start, and leaves no trace."""

from metafleet.contracts.connections import connect
from tests.fleet import Fleet
from tests.runs import Watcher, config, execute, new_run, undisturbed


def test_children_that_are_still_starting_are_sent_nothing(fleet: Fleet) -> None:
    experiment = config(
        outer={"steps": 1},
        engine={"episodes_per_job": 1},
        validation={"every": 0},
        test={"episodes": 2, "baselines": False},
    )
    # it announces itself while its children import torch for seconds
    fleet.start(1, "--pool", "prefork", "--concurrency", "2", as_command=True)
    run, watcher = new_run(fleet.settings, experiment), Watcher()

    report = execute(fleet.settings, run, watcher=watcher)

    assert report.checkpoint_sha256 == undisturbed(fleet.settings, experiment)
    assert [step.retries for step in watcher.steps] == [0]


def test_no_message_is_kept_to_be_delivered_again(standing_fleet: Fleet) -> None:
    settings = standing_fleet.settings
    execute(settings, new_run(settings, config(outer={"steps": 2})))

    with connect(str(settings.broker_url)) as client:
        kept = [key for key in client.keys("*") if b"unacked" in key]

    assert kept == []
