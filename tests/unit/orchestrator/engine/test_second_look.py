"""The second computation of a run's first shard: what becomes of one that brings nothing."""

from types import SimpleNamespace
from typing import Any

from metafleet.orchestrator.engine.second_look import SecondLook
from tests.messages import make_request


class Collector:
    """A collector that saw ``seen`` of the shard that was watched."""

    def __init__(self, seen: object) -> None:
        self.seen = seen

    def watch(self, _shard: int) -> None:
        pass


def opened(seen: object) -> Any:
    step = SimpleNamespace(request=make_request(), name="train step 7", shards=("shard",))
    step.collector = Collector(seen)
    return step


def test_a_second_computation_without_a_result_is_reported_and_ends_nothing() -> None:
    notices: list[str] = []
    closed: list[object] = []
    again = opened(None)
    look = SecondLook(
        lambda *_: again,
        lambda _: None,
        closed.append,
        is_due=True,
        count_processes=lambda: 2,
        notify=notices.append,
    )

    look.compare(look.begin(opened("seen")))

    assert notices == [
        "train step 7 was not computed twice to compare the bits: no result was added up"
    ]
    assert closed == [again]
