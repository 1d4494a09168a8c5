"""The metrics of fleet and runs, for Prometheus."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from metafleet.contracts.attempt_outcomes import AttemptOutcome
from metafleet.contracts.presence import WorkerInfo
from metafleet.db.records import RunStatus
from metafleet.orchestrator.monitoring.fleet_reading import FleetReading
from metafleet.orchestrator.monitoring.monitor import Monitor, Snapshot
from metafleet.orchestrator.monitoring.runs_reading import OpenRun, RunsReading

_RUN: Final = ("run", "name")
_Figure = tuple[str, Callable[[OpenRun], float]]
_FIGURES: Final[Mapping[str, _Figure]] = {
    "run_steps_done": ("Outer steps done.", lambda run: run.run.steps_done),
    "run_steps": ("Outer steps of the whole run.", lambda run: run.run.n_steps),
    "run_max_staleness": (
        "Versions by which the state of a gradient may be old.",
        lambda run: run.max_staleness,
    ),
}
_FIGURES_OF_STEPS: Final[Mapping[str, _Figure]] = {
    "run_step_seconds": ("Mean seconds of the last 20 outer steps.", lambda run: run.step_s or 0.0),
    "run_episodes_per_second": (
        "Episodes per second in the last 20 outer steps.",
        lambda run: run.episodes_per_s,
    ),
    "run_jobs_per_second": (
        "Jobs of the last outer step, per second.",
        lambda run: run.jobs_per_s,
    ),
    "run_loss": ("Query loss of the last outer step.", lambda run: run.steps[-1].loss),
    "run_step_bytes": (
        "Bytes of the sums that workers returned in the last outer step.",
        lambda run: run.payload_bytes,
    ),
    "run_workers": (
        "Workers alive in the last outer step.",
        lambda run: run.steps[-1].workers_alive,
    ),
}


class FleetCollector(Collector):
    """Reads fleet and runs at each scrape.

    If Redis or the database does not answer, its ``up`` metric is 0 and its other metrics are left
    out, so that a graph shows a gap and not the last values.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        found = self._monitor.look()
        yield from _of_exporter(found)
        if found.fleet is not None:
            yield from _of_fleet(found.fleet)
        if found.runs is not None:
            yield from _of_runs(found.runs)

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that registering reads nothing."""
        return ()


def _gauge(
    name: str, meaning: str, labels: Sequence[str], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    """Return a gauge. The keys of ``values`` are values of the labels: a text or a tuple."""
    family = GaugeMetricFamily(f"metafleet_{name}", meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(key if isinstance(key, tuple) else (key,), value)
    return family


def _of_exporter(found: Snapshot) -> Iterator[Metric]:
    up = {"redis": float(found.fleet is not None), "database": float(found.runs is not None)}
    yield _gauge("up", "Whether Redis or the database answers.", ["service"], up)
    yield _gauge(
        "demand_shards_smoothed",
        "Open shards of all runs; rises at once and halves in a minute. For autoscaling.",
        (),
        {(): found.smooth_demand},
    )
    yield _gauge("read_seconds", "Seconds that the last reading took.", (), {(): found.read_s})


def _of_fleet(fleet: FleetReading) -> Iterator[Metric]:
    yield _gauge(
        "demand_shards",
        "Shards of open steps that are not done, whether sent or not.",
        ["run"],
        {demand.run: float(demand.open_shards) for demand in fleet.demand},
    )
    yield _gauge(
        "queue_messages",
        "Messages in a queue that no worker has taken.",
        ["queue"],
        {queue: float(length) for queue, length in fleet.queues.items()},
    )
    alive, processes = Counter[str](), Counter[str]()
    for worker in fleet.alive:
        alive[_kind(worker)] += 1
        processes[_kind(worker)] += worker.processes
    for device in ("cpu", "cuda"):  # so that a fleet without workers has zeros
        alive[device] += 0
        processes[device] += 0
    yield _gauge("workers", "Workers that are alive.", ["device"], alive)
    yield _gauge(
        "worker_processes", "Jobs that workers can compute at a time.", ["device"], processes
    )
    idle_s = {worker.name: worker.idle_s for worker in fleet.alive}
    yield _gauge("worker_idle_seconds", "Seconds since a worker had a job.", ["worker"], idle_s)
    used = {server: float(memory.used) for server, memory in fleet.memory.items()}
    yield _gauge("redis_memory_bytes", "Memory that a Redis server uses.", ["server"], used)
    limit = {server: float(memory.limit) for server, memory in fleet.memory.items()}
    yield _gauge("redis_memory_limit_bytes", "Its limit; 0 for none.", ["server"], limit)


def _kind(worker: WorkerInfo) -> str:
    """Return "cpu" or "cuda" of a device such as "cuda:0 NVIDIA H200"."""
    return worker.device.split(":")[0].split(" ")[0]


def _of_runs(runs: RunsReading) -> Iterator[Metric]:
    by_status = {
        (status.value,): float(runs.by_status.get(status.value, 0)) for status in RunStatus
    }
    yield _gauge("runs", "Runs that are not archived, by status.", ["status"], by_status)
    attempts = CounterMetricFamily(
        "metafleet_attempts",
        "Attempts of all runs, by outcome and reason. Each is sent once.",
        labels=("outcome", "reason"),
    )
    jobs = 0
    for total in runs.attempts:
        attempts.add_metric((total.outcome, total.reason), total.n)
        jobs += total.n * (total.outcome == AttemptOutcome.COUNTED)
    yield attempts
    yield CounterMetricFamily(
        "metafleet_jobs", "Jobs of all runs whose result counted.", value=jobs
    )
    yield from _of_open_runs(runs.open_runs)


def _of_open_runs(open_runs: tuple[OpenRun, ...]) -> Iterator[Metric]:
    yield _gauge(
        "run_state",
        "1 for the state of each queued or running run.",
        (*_RUN, "state"),
        {(*_name(each), each.state.state.value): 1.0 for each in open_runs},
    )
    for name, (meaning, value) in _FIGURES.items():
        values = {_name(each): float(value(each)) for each in open_runs}
        yield _gauge(name, meaning, _RUN, values)
    started = [each for each in open_runs if each.steps]
    for name, (meaning, value) in _FIGURES_OF_STEPS.items():
        values = {_name(each): float(value(each)) for each in started}
        yield _gauge(name, meaning, _RUN, values)
    slow = [(each, each.straggler) for each in started if each.straggler is not None]
    yield _gauge(
        "run_slowest_job_seconds",
        "Seconds from sending to the result of the slowest job of the last outer step.",
        _RUN,
        {_name(each): straggler.took_s for each, straggler in slow},
    )
    yield _gauge(
        "run_median_job_seconds",
        "The same for the median job.",
        _RUN,
        {_name(each): straggler.median_s for each, straggler in slow},
    )


def _name(each: OpenRun) -> tuple[str, str]:
    return each.run.uid, each.run.name
