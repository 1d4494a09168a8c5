"""Threads that share an encoder load its weights once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from metafleet.encoders import registry
from metafleet.encoders.loaded_once import loaded_once
from metafleet.encoders.wordllama import WordLlama

N_THREADS = 8


class _Slow:
    n_loads = 0

    @loaded_once
    def weights(self) -> object:
        self.n_loads += 1
        threading.Event().wait(0.05)  # as long as other threads need to get here
        return object()


def test_a_value_is_loaded_once_for_all_threads() -> None:
    slow, ready = _Slow(), threading.Barrier(N_THREADS)

    def read(_: int) -> object:
        ready.wait()
        return slow.weights

    with ThreadPoolExecutor(N_THREADS) as pool:
        found = list(pool.map(read, range(N_THREADS)))

    assert slow.n_loads == 1
    assert len(set(map(id, found))) == 1
    assert _Slow().weights is not slow.weights


def test_threads_that_ask_for_an_encoder_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = threading.Barrier(N_THREADS)

    def make(pooling: str) -> WordLlama:
        threading.Event().wait(0.05)
        return WordLlama(pooling)

    def get(_: int) -> object:
        ready.wait()
        return registry.get_encoder("package:slow", kind="text")

    monkeypatch.setattr(registry, "PACKAGED", {"slow": make})
    with ThreadPoolExecutor(N_THREADS) as pool:
        found = list(pool.map(get, range(N_THREADS)))

    assert len(set(map(id, found))) == 1
    registry._made.cache_clear()
