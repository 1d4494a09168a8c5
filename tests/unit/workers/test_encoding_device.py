"""A worker encodes on the device that it was started for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metafleet.contracts.settings import Settings
from metafleet.encoders import runtime
from metafleet.workers.inner_loop import InnerLoopRunner


def test_a_worker_for_the_cpu_leaves_a_gpu_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runtime, "_device", "")
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path))
    settings = replace(Settings.load(), broker_url="redis://127.0.0.1:1/0", device="cpu")
    assert runtime.device().type == "cuda"  # of a process that prepares data
    n_threads = torch.get_num_threads()

    InnerLoopRunner(settings)  # which connects to nothing yet

    torch.set_num_threads(n_threads)
    assert runtime.device().type == "cpu"
