"""A snapshot with everything in it, and a monitor that always returns it."""

from dataclasses import replace

from starlette.applications import Starlette
from starlette.testclient import TestClient

from metafleet.contracts.demand import Demand
from metafleet.contracts.job import PROTOCOL_VERSION
from metafleet.contracts.presence import WorkerInfo
from metafleet.contracts.settings import Settings
from metafleet.db.records import AttemptTotal, RunStatus
from metafleet.orchestrator.monitoring.fleet_reading import FleetReading, Memory
from metafleet.orchestrator.monitoring.monitor import Monitor, Snapshot
from metafleet.orchestrator.monitoring.runs_reading import OpenRun, RunsReading, Straggler
from metafleet.orchestrator.records.states import LiveState, State
from tests.databases import make_step
from tests.runs import run_of


def worker(name: str, *, device: str = "cpu", seen_s: float = 1.0) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        host="lab",
        pid=42,
        device=device,
        queues=("inner.cpu",),
        protocol=PROTOCOL_VERSION,
        version="0.5.0",
        fingerprint="",
        last_seen_s=seen_s,
        processes=2,
        idle_s=0.5,
    )


RUN = replace(run_of("sinusoid-maml"), status=RunStatus.RUNNING, steps_done=12)
FULL = Snapshot(
    fleet=FleetReading(
        workers=(
            worker("cpu0@lab"),
            worker("gpu0@lab", device="cuda:0 NVIDIA H200"),
            worker("dead@lab", seen_s=60),
        ),
        queues={"inner.cpu": 7, "inner.gpu": 0},
        demand=(Demand(RUN.uid, 9),),
        memory={"broker": Memory(1000, 0), "blobs": Memory(2000, 4000)},
    ),
    runs=RunsReading(
        by_status={"running": 1, "failed": 2},
        open_runs=(
            OpenRun(
                run=RUN,
                state=LiveState(State.RETRYING, "step 13, shard 2: lost"),
                steps=(make_step(11, loss=0.5), make_step(12, loss=0.25)),
                jobs=4,
                payload_bytes=4096,
                straggler=Straggler(2, "lab:42", 1.5, 0.5),
            ),
        ),
        attempts=(AttemptTotal(outcome="counted", reason="", n=40),),
    ),
    smooth_demand=9.5,
)


class Fixed(Monitor):
    """A monitor that reads nothing."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(Settings.load({"METAFLEET_HOME": "/nonexistent"}))
        self._snapshot = snapshot

    def look(self) -> Snapshot:
        return self._snapshot


def scrape(app: Starlette, path: str = "/metrics") -> str:
    return TestClient(app).get(path).text
