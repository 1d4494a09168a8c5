"""Workers, Redis and an orchestrator that fail while items are encoded over the fleet."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from metafleet.contracts.settings import child_environment
from metafleet.data.registry import open_data
from metafleet.encoders.base import Array
from metafleet.encoders.encoding import encoding_elsewhere
from metafleet.orchestrator.engine import feature_fleet
from metafleet.orchestrator.engine.feature_fleet import Encoded, FeatureFleet
from tests.encoded import options, write_texts
from tests.fleet import ROOT, Fleet
from tests.redis_server import RedisServer
from tests.running import ROWS, Row

N_EACH = 150
N_ITEMS = 12 * N_EACH
HALFWAY = 512


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,800 different texts: eight batches of the encoder."""
    return write_texts(tmp_path_factory.mktemp("data") / "texts", n_each=N_EACH)


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Array]:
    """The digest of the data, and the features, that this process computes."""
    return _opened(folder, tmp_path_factory.mktemp("here"))


@pytest.fixture(autouse=True)
def small_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch in each job."""
    monkeypatch.setattr(feature_fleet, "BATCHES_A_JOB", 1)


def _opened(folder: Path, data_dir: Path) -> tuple[str, Array]:
    data = open_data(options(folder), data_dir)
    prepared = data.prepare()
    assert prepared is not None
    return data.digest(), prepared.load("text")


def _prepare_over(fleet: Fleet, folder: Path, fault: Callable[[], object]) -> Encoded:
    """Prepare over the fleet; halfway, break something once."""
    faults: Iterator[Callable[[], object]] = iter([fault])

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "encoding" and done >= HALFWAY:
            next(faults, lambda: None)()

    encoding = FeatureFleet(fleet.settings, lambda text: None)
    with encoding_elsewhere(encoding.encode):
        open_data(options(folder), fleet.settings.data_dir).prepare(progress)
    assert next(faults, None) is None  # it happened
    return encoding.encoded


def _assert_undisturbed(
    fleet: Fleet, folder: Path, undisturbed: tuple[str, Array], broken: str, happened: str
) -> None:
    digest, features = _opened(folder, fleet.settings.data_dir)
    ROWS.append(Row(broken, happened, None, digest == undisturbed[0]))
    np.testing.assert_array_equal(features, undisturbed[1])
    assert digest == undisturbed[0]
    (store,) = (fleet.settings.data_dir / "features").iterdir()
    assert (store / "index.bin").stat().st_size == 40 * N_ITEMS  # each once


def test_a_worker_killed_while_it_encodes(
    fleet: Fleet, folder: Path, undisturbed: tuple[str, Array]
) -> None:
    victim, _ = fleet.start(2)

    encoded = _prepare_over(fleet, folder, victim.kill)

    assert encoded.n_items == N_ITEMS
    _assert_undisturbed(
        fleet, folder, undisturbed, "worker SIGKILLed while encoding", "its batches sent again"
    )


def test_a_worker_frozen_while_it_encodes(
    fleet: Fleet, folder: Path, undisturbed: tuple[str, Array]
) -> None:
    frozen, _ = fleet.start(2)

    encoded = _prepare_over(fleet, folder, lambda: frozen.send(signal.SIGSTOP))
    frozen.send(signal.SIGCONT)

    assert encoded.n_items == N_ITEMS
    _assert_undisturbed(
        fleet, folder, undisturbed, "worker SIGSTOPped while encoding", "another attempt won"
    )


def test_redis_back_empty_while_workers_encode(
    fleet: Fleet, redis_server: RedisServer, folder: Path, undisturbed: tuple[str, Array]
) -> None:
    fleet.start(2)

    encoded = _prepare_over(fleet, folder, lambda: (redis_server.kill(), redis_server.start()))

    assert encoded.n_items == N_ITEMS
    _assert_undisturbed(
        fleet, folder, undisturbed, "Redis back empty while encoding", "open batches sent again"
    )


_DYING = """
import os, signal, sys
from metafleet.encoders.store import FeatureStore
from metafleet.orchestrator.cli.main import main
from metafleet.orchestrator.engine import feature_fleet
feature_fleet.BATCHES_A_JOB = 1
add, n_calls = FeatureStore.add, 0
def dying(*arguments):
    global n_calls
    n_calls += 1
    if n_calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    add(*arguments)
FeatureStore.add = dying
main(sys.argv[1:])
"""


def test_an_orchestrator_killed_while_workers_encode(
    fleet: Fleet, folder: Path, undisturbed: tuple[str, Array]
) -> None:
    fleet.start(1)
    chosen = [f"text.encoder={options(folder)['text']['encoder']}"]
    chosen.append(f"split_seed={options(folder)['split_seed']}")
    words = ["data", "prepare", str(folder), "--fleet"]
    words += [word for text in chosen for word in ("--set", text)]

    died = subprocess.run(
        [sys.executable, "-c", _DYING, *words],
        check=False,
        cwd=ROOT,
        env=child_environment(fleet.settings),
        capture_output=True,
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not list((fleet.settings.data_dir / "prepared").glob("folder-*/index.json"))
    encoded = _prepare_over(fleet, folder, lambda: None)

    assert 0 < encoded.n_items < N_ITEMS  # the batches that the first one had kept are not repeated
    _assert_undisturbed(
        fleet, folder, undisturbed, "orchestrator SIGKILLed while encoding", "kept batches, went on"
    )
