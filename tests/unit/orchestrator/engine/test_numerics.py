"""Which workers may compute for a run, and the reports about the others."""

import json
from typing import Any

import pytest

from metafleet.orchestrator.engine.numerics import Numerics
from metafleet.sources import imported_digest
from metafleet.workload_spec import WorkloadSpec
from tests.messages import make_result

SPEC = WorkloadSpec(0, {"name": "x"}, "", {}, {"name": "mlp"}, {"name": "maml"})
OWN = WorkloadSpec(0, {"name": "x"}, "", {}, {"name": "mlp"}, {"name": "tests.own:Learner"})


class Bench:
    def __init__(self, known: str = "", *, is_strict: bool = True) -> None:
        self.notices: list[str] = []
        self.numerics = Numerics(known, is_strict=is_strict, notify=self.notices.append)

    def fault(self, spec: WorkloadSpec = SPEC, worker: str = "host:1", **keys: str) -> str:
        result = make_result(worker=worker, fingerprint=json.dumps(keys))
        return self.numerics.find_fault(spec, result)


def test_the_first_result_decides_and_later_ones_add_what_they_alone_know() -> None:
    bench = Bench()
    assert bench.numerics.required(SPEC) == ""
    assert bench.fault(cpu="AVX2") == ""
    assert bench.fault(cpu="AVX2", compiler="g++ 12") == ""
    assert json.loads(bench.numerics.known) == {"cpu": "AVX2", "compiler": "g++ 12"}
    assert bench.numerics.required(SPEC) == bench.numerics.known

    assert bench.fault(cpu="AVX512", worker="host:2").startswith(
        "host:2 computes otherwise than the run: its cpu is AVX512 but the run has AVX2"
    )
    assert bench.notices == []  # it is withdrawn, and its shard goes elsewhere


def test_packages_are_those_of_the_orchestrator_before_anybody_computed() -> None:
    bench = Bench()
    own = imported_digest("tests")
    assert json.loads(bench.numerics.required(OWN))["package tests"] == own
    fault = bench.fault(OWN, **{"package tests": "0" * 16})
    assert f"package 'tests' is {'0' * 16} but the run has {own}" in fault
    assert bench.fault(OWN, **{"package tests": own}) == ""


def test_what_was_recorded_when_the_run_began_comes_first() -> None:
    bench = Bench(json.dumps({"package tests": "f" * 16}))
    assert json.loads(bench.numerics.required(OWN))["package tests"] == "f" * 16


def test_a_relaxed_run_goes_on_with_others_and_tells_of_each_once() -> None:
    bench = Bench(is_strict=False)
    for cpu, worker in [("AVX2", "host:1"), ("AVX512", "host:2"), ("AVX512", "host:2")]:
        assert bench.fault(cpu=cpu, worker=worker) == ""
    (notice,) = bench.notices
    assert "host:2 computes otherwise" in notice
    assert "relaxed" in notice
    assert bench.numerics.required(SPEC) == ""


@pytest.mark.parametrize(("reason", "n_notices"), [("fingerprint", 1), ("data", 0)])
def test_a_worker_that_refuses_for_its_arithmetic_is_reported_once(
    reason: str, n_notices: int
) -> None:
    bench = Bench()
    fields: dict[str, Any] = {"status": "refused", "reason": reason, "error": "host:2: other"}
    for _ in range(2):
        assert bench.numerics.find_fault(SPEC, make_result(**fields)) == ""
    assert len(bench.notices) == n_notices


@pytest.mark.parametrize("is_strict", [True, False])
def test_an_invalid_fingerprint_is_never_adopted(is_strict: bool) -> None:
    bench = Bench(is_strict=is_strict)
    bench.fault(cpu="AVX2")
    fault = bench.numerics.find_fault(SPEC, make_result(fingerprint="an abacus"))
    assert bool(fault) == is_strict
    assert json.loads(bench.numerics.known) == {"cpu": "AVX2"}
