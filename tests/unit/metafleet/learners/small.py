"""Every learner of the registry, made small, so that a test of all of them takes seconds."""

import dataclasses
from typing import Any

from metafleet.episode import Episode
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.registry import LEARNERS
from tests.learning_cases import NAMED
from tests.unit.metafleet.few_shot import TINY_MLP, classification_episode, make_learner

SMALL: dict[str, dict[str, Any]] = {
    "anp": {"hidden": 16, "heads": 2, "latent": 3},
    "cavia": {"conditioning": "film"},
    "cnp": {"hidden": 6},
    "maml_plus_plus": {"first_order_epochs": 0},
    "mann": {"units": 5, "slots": 6, "width": 3, "reads": 2},
    "mmaml": {"units": 3},
    "reptile": {"inner_batch_eval": 0},
    "snail": {"filters": 6},
}
"""Options of learners that are slow at their defaults, or cannot do what a test of all asks."""


def made(name: str, episode: Episode, model: dict[str, Any] = TINY_MLP, **options: Any) -> Any:
    """Build a learner with two gentle inner steps, if it takes any."""
    fields = {field.name for field in dataclasses.fields(LEARNERS[name].Options)}
    gentle = {"inner_lr": 0.02, "inner_steps": 2, "inner_steps_eval": 3}
    few = {option: value for option, value in gentle.items() if option in fields}
    learner = {"name": name} | few | SMALL.get(name, {}) | options
    return make_learner(episode, model=model, learner=learner)


PLAIN = [name for name in LEARNERS if name not in NAMED]
SHIFTING = {"multilabel_protonet"}
"""Learners with a parameter that moves the logits of all classes alike, of which no class depends:
their gradient is tested with several labels an item."""
DIFFERENTIATED = [
    name
    for name, kind in LEARNERS.items()
    if name not in SHIFTING | NAMED
    and getattr(kind, "meta_gradient", None) is EpisodicLearner.meta_gradient
    and made(name, classification_episode()).init_state(1).params
]
HAVING_FIRST_ORDER = [n for n in DIFFERENTIATED if hasattr(LEARNERS[n].Options(), "first_order")]
