"""Freed memory is kept: the next episode finds it warm."""

import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource, torch
from metafleet.contracts.device import prepare_process

prepare_process("cpu")

def episode():
    tensors = [torch.ones(250_000) for _ in range(40)]
    del tensors

for _ in range(3):  # the allocator's layout settles
    episode()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    episode()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other allocators")
def test_episodes_use_the_same_memory_again() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _COUNT_FAULTS], check=True, capture_output=True, text=True
    )

    # 40 MB an episode are 10,000 pages
    assert int(answer.stdout) < 500
