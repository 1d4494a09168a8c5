"""Timing that is fair on a busy machine: rows run in turn, and medians are compared."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

WARM_UP_TURNS = 2


def time_in_turns(
    works: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run every piece of work once per turn; return the seconds of each turn after two warm-ups."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + WARM_UP_TURNS):
        for name, work in works.items():
            started_s = clock()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn >= WARM_UP_TURNS:
                times[name].append(clock() - started_s)
    return times


def spread_ms(seconds: list[float], n_tasks: int) -> dict[str, float]:
    """Return median, minimum and maximum over repeats of ``n_tasks``, in milliseconds per task."""
    ms = [1e3 * s / n_tasks for s in seconds]
    return {"median_ms": statistics.median(ms), "min_ms": min(ms), "max_ms": max(ms)}


def peak_gflops(device: str) -> float:
    """Measure the device's peak rate with float32 matrix products of 2048 x 2048."""
    a, b = torch.randn(2, 2048, 2048, device=device)
    times = time_in_turns({"product": lambda: a @ b}, repeats=9, device=device)["product"]
    return 2e-9 * 2048**3 / min(times)
