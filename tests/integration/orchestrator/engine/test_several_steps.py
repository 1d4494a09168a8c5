"""Several steps open at once: each comes out as if it were alone."""

import itertools
from collections.abc import Iterator

import pytest

from metafleet.contracts.connections import connect
from metafleet.data import registry as datasets
from metafleet.episode import META_TRAIN, META_VAL
from metafleet.errors import NumericsError
from metafleet.orchestrator.engine.dispatchers import open_dispatcher
from metafleet.orchestrator.engine.fleet import FleetDispatcher
from metafleet.orchestrator.engine.local import LocalDispatcher
from metafleet.orchestrator.engine.run_context import RunContext
from metafleet.orchestrator.engine.step import Dispatcher, StepOutcome, StepRequest
from metafleet.params import digest
from metafleet.workload import Workload
from tests.fleet import Fleet
from tests.messages import new_uid
from tests.redis_server import RedisServer
from tests.runs import config


class Bench:
    """A fleet's dispatcher, and one that computes here, with requests for both."""

    def __init__(self, fleet: Fleet) -> None:
        experiment, data_dir = config(), fleet.settings.data_dir
        self.spec = experiment.workload_spec(datasets.open_data(experiment.data, data_dir).digest())
        self.state = Workload.build(self.spec, data_dir=data_dir).init_state()
        self.notices: list[str] = []
        self.here: Dispatcher = LocalDispatcher(episodes_per_job=3, data_dir=data_dir, device="cpu")
        epochs = itertools.count(1)
        self.uid = new_uid()
        opened = open_dispatcher(
            RunContext(fleet.settings, self.uid, in_process=False, notify=self.notices.append),
            experiment,
            next_epoch=lambda beyond: max(beyond + 1, next(epochs)),
        )
        assert isinstance(opened, FleetDispatcher)
        self.fleet = opened

    def request(self, step: int, *, is_validation: bool = False) -> StepRequest:
        return StepRequest(
            stream="validate" if is_validation else "train",
            step=step,
            kind="evaluate" if is_validation else "gradient",
            split=META_VAL if is_validation else META_TRAIN,
            episode_step=0 if is_validation else step,
            n_episodes=30 if is_validation else 10,
            spec=self.spec,
            state=self.state,
        )

    def assert_as_here(self, outcome: StepOutcome, request: StepRequest) -> None:
        expected = self.here.run_step(request)
        assert digest(outcome.sums) == digest(expected.sums)
        assert outcome.metrics == expected.metrics


@pytest.fixture
def bench(standing_fleet: Fleet) -> Iterator[Bench]:
    bench = Bench(standing_fleet)
    yield bench
    bench.fleet.close()


def test_steps_that_are_open_together_come_out_as_alone(bench: Bench) -> None:
    requests = [bench.request(1, is_validation=True), *map(bench.request, (1, 2, 3))]

    tickets = [bench.fleet.begin(request) for request in requests]
    trained = [bench.fleet.finish(ticket) for ticket in tickets[1:]]
    validated = bench.fleet.finish(tickets[0])

    for outcome, request in zip([validated, *trained], requests, strict=True):
        bench.assert_as_here(outcome, request)


def test_a_step_that_fails_leaves_the_others_alone(bench: Bench) -> None:
    doomed = bench.fleet.begin(bench.request(1, is_validation=True))
    other = bench.request(1)
    ticket = bench.fleet.begin(other)
    (step,) = [s for s in bench.fleet._open_steps if s.request.stream == "validate"]
    step.failure = NumericsError("validate step 1: the loss is nan")

    bench.assert_as_here(bench.fleet.finish(ticket), other)

    assert bench.fleet.is_ready(doomed)
    with pytest.raises(NumericsError, match="the loss is nan"):
        bench.fleet.finish(doomed)


def test_steps_given_up_leave_nothing_behind(bench: Bench, standing_fleet: Fleet) -> None:
    tickets = [bench.fleet.begin(bench.request(step)) for step in (1, 2)]
    bench.fleet.begin(bench.request(1, is_validation=True))

    bench.fleet.drop(tickets[1])
    bench.assert_as_here(bench.fleet.finish(tickets[0]), bench.request(1))
    bench.fleet.close()

    with connect(str(standing_fleet.settings.broker_url)) as client:
        left = {key.decode().split("}:")[1] for key in client.scan_iter(f"mf:{{{bench.uid}}}:*")}
    # "dropped": what workers report of jobs that are no longer wanted
    closed = {f"{stream}:e1:closed" for stream in ("train", "train-again", "validate")}
    assert left <= {"epoch", "holder", "dropped"} | closed | {
        key
        for key in left
        if ":lease:" in key  # of jobs that end in the next moment
    }


def test_redis_back_empty_loses_none_of_them(fleet: Fleet, redis_server: RedisServer) -> None:
    fleet.start(1)
    bench = Bench(fleet)
    requests = [bench.request(1, is_validation=True), bench.request(1), bench.request(2)]
    tickets = [bench.fleet.begin(request) for request in requests]

    redis_server.kill()
    redis_server.start()
    outcomes = [bench.fleet.finish(ticket) for ticket in (tickets[1], tickets[2], tickets[0])]
    bench.fleet.close()

    for outcome, request in zip(outcomes, [requests[1], requests[2], requests[0]], strict=True):
        bench.assert_as_here(outcome, request)
    assert any("came back empty" in notice for notice in bench.notices)
