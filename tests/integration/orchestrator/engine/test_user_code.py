"""Users' code: one version of it computes a run, and its results repeat to the bit."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from metafleet.db.engine import Database
from metafleet.db.records import ATTEMPT_COUNTS
from metafleet.errors import FleetError, ImpureError
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.sources import disk_digest
from tests.fleet import Fleet, open_fleet
from tests.redis_server import RedisServer
from tests.runs import (
    Watcher,
    assert_every_shard_once,
    config,
    execute,
    new_run,
    read_run,
    undisturbed,
)

CODE = """
import os
import random
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy
import torch

from metafleet.learners.maml import Maml, MamlOptions

FACTOR = {factor}
COUNT = [os.getpid() % 1000 * 100]  # two processes never have the same count


@dataclass(frozen=True, slots=True)
class Options:
    way: str = "pure"


def random_factor():
    return 1.0 + 0.01 * (random.random() + float(numpy.random.rand()) + float(torch.rand(())))


def order_of_a_set():
    return 1.0 + 0.01 * list(set(map(str, range(1000)))).index("7")


WAYS = {{
    "pure": lambda: 1.0,
    "draws": random_factor,
    "clock": lambda: 1.0 + 0.01 * (time.time() % 1),
    "count": lambda: 1.0 + 1e-5 * COUNT[0],
    "set": order_of_a_set,
    "state": lambda: 1.0,
}}


class Own(Maml):
    Options: ClassVar[type] = Options

    @classmethod
    def build(cls, options, problem, make_model):
        learner = super().build(MamlOptions(inner_lr=0.01), problem, make_model)
        learner.way = options.way
        return learner

    def episode_gradient(self, state, episode):
        COUNT[0] += 1
        found = super().episode_gradient(state, episode)
        if self.way == "state":
            for value in state.params.values():
                value.data.add_(0.01)
        factor = FACTOR * WAYS[self.way]()
        return type(found)(
            {{name: factor * value for name, value in found.grads.items()}},
            found.buffers,
            found.metrics,
        )
"""
PACKAGE = "code_of_a_user"


def write_package(folder: Path, factor: float) -> Path:
    (folder / PACKAGE).mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").write_text(CODE.format(factor=factor))
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])} | more


def experiment(way: str = "pure", numerics: str = "strict") -> ExperimentConfig:
    chosen = config(
        outer={"steps": 2},
        validation={"every": 0},
        test={"baselines": False},
        engine={"numerics": numerics},
    )
    return chosen.model_copy(update={"learner": {"name": f"{PACKAGE}:Own", "way": way}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("first"), 1.0)


@pytest.fixture(autouse=True)
def imported_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first version can be imported by this process, the orchestrator's."""
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop(PACKAGE, None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Fleet]:
    """Two workers with one version of the package, whose sets of texts have orders of their own."""
    server = RedisServer()
    try:
        with open_fleet(tmp_path_factory.mktemp("pair") / "home", server.url) as opened:
            opened.settings = replace(opened.settings, allowed_packages=(PACKAGE,))
            for seed in ("1", "2"):
                opened.start(1, environment=environment(folder, PYTHONHASHSEED=seed))
            yield opened
    finally:
        server.stop()


def test_a_worker_with_another_version_of_a_package_computes_nothing_of_a_strict_run(
    fleet: Fleet, folder: Path, tmp_path: Path
) -> None:
    fleet.settings = replace(fleet.settings, allowed_packages=(PACKAGE,))
    expected = undisturbed(fleet.settings, experiment())
    other = write_package(tmp_path / "second", 1.01)
    fleet.start(1, environment=environment(folder))
    fleet.start(1, environment=environment(other))
    watcher = Watcher()

    report = execute(fleet.settings, new_run(fleet.settings, experiment()), watcher=watcher)

    assert report.checkpoint_sha256 == expected
    (notice,) = (text for text in watcher.notices if PACKAGE in text)
    assert f"package '{PACKAGE}' is " in notice
    assert f"but the run has {disk_digest(PACKAGE)}; install the same '{PACKAGE}'" in notice
    assert str(fleet.workers[1].pid) in notice


@pytest.mark.parametrize(
    ("numerics", "learner"),
    [("strict", {"name": f"{PACKAGE}:Own", "new": 1}), ("relaxed", {"name": f"{PACKAGE}:Later"})],
)
def test_a_worker_that_lacks_what_was_added_to_a_package_says_to_restart_it(
    fleet: Fleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numerics: str,
    learner: dict[str, object],
) -> None:
    source = write_package(tmp_path / "edited", 1.0) / PACKAGE / "__init__.py"
    monkeypatch.syspath_prepend(tmp_path / "edited")
    fleet.settings = replace(fleet.settings, allowed_packages=(PACKAGE,))
    fleet.start(1, environment=environment(tmp_path / "edited"))
    execute(fleet.settings, new_run(fleet.settings, experiment()))
    added = source.read_text().replace('way: str = "pure"', 'way: str = "pure"; new: int = 0')
    source.write_text(f"{added}\n\nclass Later(Own):\n    pass\n")
    sys.modules.pop(PACKAGE)  # as another orchestrator would be
    later = experiment(numerics=numerics).model_copy(update={"learner": learner})

    with pytest.raises(FleetError) as caught:
        execute(fleet.settings, new_run(fleet.settings, later))

    stale = "was changed on disk after this process imported it: restart this process"
    assert stale in str(caught.value)
    assert "\n" not in str(caught.value)


def test_learners_that_draw_from_global_generators_have_the_same_bits_everywhere(
    pair: Fleet,
) -> None:
    expected = undisturbed(pair.settings, experiment("draws"))
    assert expected != undisturbed(pair.settings, experiment())
    run = new_run(pair.settings, experiment("draws"))

    assert execute(pair.settings, run).checkpoint_sha256 == expected

    assert_every_shard_once(pair.settings, run, steps=2, shards=4)
    with Database.open(pair.settings.database_url) as database, database.session() as session:
        rows = session.execute(
            select(ATTEMPT_COUNTS.c.outcome, ATTEMPT_COUNTS.c.n).where(
                ATTEMPT_COUNTS.c.run_id == run.id, ATTEMPT_COUNTS.c.stream == "train-again"
            )
        )
        again = {outcome: n for outcome, n in rows}
    assert again["sent"] == again["counted"] >= 1


@pytest.mark.parametrize("way", ["clock", "count", "set"])
def test_a_learner_that_does_not_repeat_itself_is_refused_in_the_first_step(
    pair: Fleet, way: str
) -> None:
    run = new_run(pair.settings, experiment(way))
    with pytest.raises(ImpureError, match=r"train step 1: .* other bits .*PYTHONHASHSEED"):
        execute(pair.settings, run)
    assert (read_run(pair.settings, run).steps_done, read_run(pair.settings, run).status.value) == (
        0,
        "failed",
    )


def test_a_relaxed_run_is_not_computed_twice(pair: Fleet) -> None:
    run = new_run(pair.settings, experiment("count", "relaxed"))
    assert execute(pair.settings, run).checkpoint_sha256


def test_a_learner_that_writes_to_its_state_is_refused_and_leaves_none_of_it_behind(
    pair: Fleet,
) -> None:
    expected = undisturbed(pair.settings, experiment())
    with pytest.raises(ImpureError, match=r"wrote to the state .*clone\(\)"):
        execute(pair.settings, new_run(pair.settings, experiment("state")))
    # the state that both begin with is the same blob, which workers keep
    run = new_run(pair.settings, experiment())
    assert execute(pair.settings, run).checkpoint_sha256 == expected


@pytest.mark.parametrize("way", ["clock", "count", "state"])
def test_this_process_refuses_them_as_well(pair: Fleet, way: str) -> None:
    run = new_run(pair.settings, experiment(way))
    with pytest.raises(ImpureError):
        execute(pair.settings, run, in_process=True)
