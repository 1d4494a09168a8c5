"""A strategy gives the same bits in every process."""

import json
import subprocess
import sys

import pytest
import torch

from metafleet.execution import make_execution
from metafleet.params import digest
from tests.paths import REPOSITORY
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    classification_episode,
    make_learner,
    random_state,
)


def gradient_digest(name: str) -> str:
    torch.set_num_threads(1)
    episodes = [classification_episode(seed=95 + i, dtype=torch.float32) for i in range(3)]
    learner = make_learner(
        episodes[0],
        model=TINY_CONV4 | {"batch_norm": "running"},
        learner={"name": "maml", "inner_lr": 0.1, "inner_steps": 2},
    )
    state = random_state(learner, dtype=torch.float32)
    found = make_execution(name, learner).gradient(state, episodes)
    return digest(found.grads | found.buffers)


STRATEGIES = ("autograd", "vmap", "constant_memory")


@pytest.fixture(scope="module")
def of_another_process() -> dict[str, str]:
    program = (
        "import json; from tests.unit.metafleet.execution.test_reproducible import *; "
        "print(json.dumps({name: gradient_digest(name) for name in STRATEGIES}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", STRATEGIES)
def test_another_process_computes_the_same_bits(
    name: str, of_another_process: dict[str, str]
) -> None:
    assert of_another_process[name] == gradient_digest(name)
