"""Workers encode items: the rows of a single process, each stored once, whatever happens."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metafleet.contracts.connections import connect
from metafleet.contracts.presence import list_workers
from metafleet.contracts.settings import Settings
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.registry import open_data
from metafleet.encoders.base import Array
from metafleet.encoders.encoding import encoding_elsewhere
from metafleet.errors import FleetError
from metafleet.orchestrator.engine import feature_fleet
from metafleet.orchestrator.engine.feature_fleet import Encoded, FeatureFleet
from tests.encoded import options, without_weights, write_texts
from tests.fleet import ROOT, Fleet, wait_until

N_EACH = 150
N_ITEMS = 12 * N_EACH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,800 different texts: eight batches of the encoder."""
    return write_texts(tmp_path_factory.mktemp("data") / "texts", n_each=N_EACH)


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Array:
    """The features that this process computes."""
    return prepare_here(folder, tmp_path_factory.mktemp("here")).load("text")


@pytest.fixture(autouse=True)
def small_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch in each job."""
    monkeypatch.setattr(feature_fleet, "BATCHES_A_JOB", 1)


def prepare_here(folder: Path, data_dir: Path) -> PreparedData:
    prepared = open_data(options(folder), data_dir).prepare()
    assert prepared is not None
    return prepared


def prepare_over(
    settings: Settings, folder: Path, seen: Callable[[int], None] = lambda n: None
) -> tuple[PreparedData, Encoded]:
    """Prepare over the fleet; ``seen`` is told how many items are encoded."""

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "encoding":
            assert total == N_ITEMS
            seen(done)

    fleet = FeatureFleet(settings, lambda text: None)
    with encoding_elsewhere(fleet.encode):
        prepared = open_data(options(folder), settings.data_dir).prepare(progress)
    assert prepared is not None
    return prepared, fleet.encoded


def n_stored(settings: Settings) -> int:
    """Count the records of the store of features."""
    (store,) = (settings.data_dir / "features").iterdir()
    assert (store / "rows.bin").stat().st_size == (store / "index.bin").stat().st_size // 40 * 1024
    return (store / "index.bin").stat().st_size // 40


def test_two_workers_give_the_rows_of_one_process(
    fleet: Fleet, folder: Path, expected: Array
) -> None:
    fleet.start(2)
    done: list[int] = []

    prepared, encoded = prepare_over(fleet.settings, folder, done.append)

    np.testing.assert_array_equal(prepared.load("text"), expected)
    assert n_stored(fleet.settings) == encoded.n_items == done[-1] == N_ITEMS
    assert len(encoded.workers) == 2
    assert encoded.received_bytes > N_ITEMS * 256 * 4
    with connect(str(fleet.settings.broker_url)) as client:
        assert client.keys("*{features-*") == [] or all(
            client.ttl(key) > 0 for key in client.keys("*{features-*")
        )
    left = [p for p in fleet.settings.host_cache_dir.rglob("*") if p.is_file()]
    assert left == []


def test_workers_on_another_host_give_the_same_rows(
    fleet: Fleet, folder: Path, expected: Array, tmp_path: Path
) -> None:
    fleet.start(1)
    settings = replace(fleet.settings, host_cache_dir=tmp_path / "memory")

    prepared, _ = prepare_over(settings, folder)

    np.testing.assert_array_equal(prepared.load("text"), expected)
    with connect(str(settings.broker_url)) as client:
        assert client.keys("*blob*") == []


def test_what_was_encoded_before_an_interruption_is_not_encoded_again(
    fleet: Fleet, folder: Path, expected: Array
) -> None:
    fleet.start(1)

    def interrupt(done: int) -> None:
        if done >= 768:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_over(fleet.settings, folder, interrupt)
    kept = n_stored(fleet.settings)
    prepared, encoded = prepare_over(fleet.settings, folder)

    assert 768 <= kept < N_ITEMS
    assert encoded.n_items == N_ITEMS - kept
    assert n_stored(fleet.settings) == N_ITEMS
    np.testing.assert_array_equal(prepared.load("text"), expected)


def test_a_worker_without_weights_refuses_and_another_encodes(
    fleet: Fleet, folder: Path, expected: Array, tmp_path: Path
) -> None:
    bare, _ = fleet.start(1, environment=without_weights(tmp_path / "bare"))[0], fleet.start(1)

    prepared, encoded = prepare_over(fleet.settings, folder)

    np.testing.assert_array_equal(prepared.load("text"), expected)
    assert len(encoded.workers) == 1
    assert "'wordllama', which is not installed here" in bare.log.read_text()


def test_workers_without_weights_alone_are_told_of(
    fleet: Fleet, folder: Path, tmp_path: Path
) -> None:
    fleet.start(1, environment=without_weights(tmp_path / "bare"))

    with pytest.raises(FleetError, match=r"refused .*'wordllama', which is not installed here"):
        prepare_over(fleet.settings, folder)

    assert not list((fleet.settings.data_dir / "prepared").glob("folder-*"))


_OWN = """
import numpy as np
from metafleet.encoders.base import PretrainedEncoder


class Lengths(PretrainedEncoder):
    name, kinds = "lengths", frozenset(("text",))

    def reading(self, kind):
        return {"max_bytes": 64}

    def identity(self):
        return {"version": 1}

    def n_features(self, shape):
        return 1

    def encode(self, items):
        return (items > 0).sum(1, keepdims=True).astype(np.float32)
"""


@pytest.mark.slow("processes of a pool import torch one by one")
def test_processes_of_one_worker_that_refuse_do_not_speak_for_another_worker(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodes = "        return (items"
    module = f"import time\n{_OWN.replace(encodes, f'        time.sleep(1.5){chr(10)}{encodes}')}"
    (tmp_path / "lengths_of_texts.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = write_texts(tmp_path / "texts", n_each=12)
    asked = options(texts) | {"text": {"encoder": "lengths_of_texts:Lengths"}}
    (bare,) = fleet.start(1, "--pool", "prefork", "--concurrency", "3")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    fleet.start(
        1, environment={"METAFLEET_ALLOWED_PACKAGES": "lengths_of_texts", "PYTHONPATH": path}
    )
    encode = FeatureFleet(fleet.settings, lambda text: None).encode
    with connect(str(fleet.settings.broker_url)) as client:

        def has_ready_child() -> bool:  # only then it counts as idle
            found = {worker.name: worker for worker in list_workers(client)}
            return found[f"{bare.name}@test"].idle_s > 0

        wait_until(has_ready_child, "a child that can take jobs", 60.0)

    with encoding_elsewhere(encode):
        data = open_data(asked, fleet.settings.data_dir, allowed_packages=["lengths_of_texts"])
        prepared = data.prepare()

    assert prepared is not None
    assert prepared.load("text").any()
    assert "may not be imported here" in bare.log.read_text()


def test_an_encoder_that_no_worker_may_import_ends_the_preparation_at_once(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lengths_of_texts.py").write_text(_OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = write_texts(tmp_path / "texts")
    asked = options(texts) | {"text": {"encoder": "lengths_of_texts:Lengths"}}
    fleet.start(1)
    encode = FeatureFleet(fleet.settings, lambda text: None).encode

    with (
        encoding_elsewhere(encode),
        pytest.raises(
            FleetError,
            match=r"refused 1 times; .*set METAFLEET_ALLOWED_PACKAGES=lengths_of_texts$",
        ),
    ):
        open_data(asked, fleet.settings.data_dir, allowed_packages=["lengths_of_texts"]).prepare()
