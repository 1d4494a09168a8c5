"""Two classes of devices at one run's work: both queues, workers of both that compute on CPUs."""

from collections import Counter

from metafleet.contracts.connections import connect
from metafleet.contracts.keys import queue_list
from tests.fleet import Fleet, WorkerProcess
from tests.running import Running
from tests.runs import config, execute, new_run, read_jobs, read_run, undisturbed

MIXED = {"device": "any", "numerics": "relaxed", "episodes_per_job": 1}
EXPERIMENT = config(
    engine=MIXED,
    outer={"steps": 8, "meta_batch_size": 8},
    learner={"inner_steps": 20},
    validation={"every": 0},
    test={"baselines": False},
)


def start_both(fleet: Fleet) -> tuple[WorkerProcess, WorkerProcess]:
    """A worker of each queue; that of the GPUs' has none, for the bits to be comparable."""
    (gpu,) = fleet.start(1, "-Q", "inner.gpu")
    (cpu,) = fleet.start(1)
    return gpu, cpu


def test_both_classes_work_and_the_bits_are_those_of_one_process(fleet: Fleet) -> None:
    gpu, cpu = start_both(fleet)
    run = new_run(fleet.settings, EXPERIMENT)

    report = execute(fleet.settings, run)

    assert report.checkpoint_sha256 == undisturbed(fleet.settings, EXPERIMENT)
    jobs = Counter(int(job.worker.split(":")[1]) for job in read_jobs(fleet.settings, run))
    assert set(jobs) == {gpu.pid, cpu.pid}
    assert sum(jobs.values()) == 64
    with connect(str(fleet.settings.broker_url)) as client:
        key = fleet.settings.signing_key
        lists = [queue_list(queue, key) for queue in ("inner.gpu", "inner.cpu")]
        assert [client.llen(name) for name in lists] == [0, 0]


def test_work_of_a_class_that_dies_goes_to_the_other(fleet: Fleet) -> None:
    gpu, cpu = start_both(fleet)
    running = Running(fleet.settings, EXPERIMENT)

    running.disturb(gpu.kill)

    assert running.result().checkpoint_sha256 == undisturbed(fleet.settings, EXPERIMENT)
    last = [job for job in read_jobs(fleet.settings, running.run) if job.step == 8]
    assert {int(job.worker.split(":")[1]) for job in last} == {cpu.pid}


def test_a_run_begins_with_the_one_class_that_is_there(fleet: Fleet) -> None:
    fleet.start(1)
    run = new_run(fleet.settings, EXPERIMENT)

    report = execute(fleet.settings, run)

    assert report.checkpoint_sha256 == undisturbed(fleet.settings, EXPERIMENT)


def test_each_class_is_measured_and_written_down(fleet: Fleet) -> None:
    start_both(fleet)
    experiment = config(engine={**MIXED, "episodes_per_job": "auto"}, outer={"steps": 2})
    run = new_run(fleet.settings, experiment)

    report = execute(fleet.settings, run)

    measured = read_run(fleet.settings, run).calibration
    assert measured is not None
    assert [speed["device"] for speed in measured["classes"]] == ["cuda", "cpu"]
    assert [speed["processes"] for speed in measured["classes"]] == [1, 1]
    given = {**MIXED, "episodes_per_job": measured["episodes_per_job"]}
    expected = undisturbed(fleet.settings, config(engine=given, outer={"steps": 2}))
    assert report.checkpoint_sha256 == expected
