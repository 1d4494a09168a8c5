"""The small learner that tests compile; run as a program, it prints a digest of its gradient."""

import json
import logging
import sys
from pathlib import Path

import torch

from metafleet.episode import Episode
from metafleet.execution import Strategy, make_execution
from metafleet.learners.base import Learner, MetaGradient
from metafleet.params import MetaState, digest
from tests.unit.metafleet.few_shot import make_learner, random_state, regression_episode

STRATEGY = Strategy("compiled", chunk=2)


def case() -> tuple[Learner, MetaState, list[Episode]]:
    """Meta-SGD, whose step sizes are learned as well, and three episodes: a chunk and a half."""
    torch.set_num_threads(1)
    episodes = [regression_episode(seed=80 + i) for i in range(3)]
    learner = make_learner(
        episodes[0],
        model={"name": "mlp", "hidden": [5]},
        learner={"name": "meta_sgd", "inner_steps": 1},
    )
    return learner, random_state(learner), episodes


def compiled_gradient(folder: Path) -> MetaGradient:
    learner, state, episodes = case()
    return make_execution(STRATEGY, learner, cache_dir=folder).gradient(state, episodes)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    found = compiled_gradient(Path(sys.argv[1]))
    losses = [one.loss for one in found.metrics]
    print(json.dumps({"sha256": digest(found.grads), "losses": losses}))  # noqa: T201
