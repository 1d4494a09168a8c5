"""ANIL and BOIL: MAML in which only the head or only the body adapts."""

from dataclasses import dataclass

import pytest
from torch import Tensor
from torch.func import grad

from metafleet.errors import ConfigError
from metafleet.params import Params
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
)
from tests.unit.metafleet.learners.parity import MODELS, assert_differentiates, loss_of

HEADS = ("layer2.", "head.")  # of the MLP, and of the convolutional network
STEPS, RATE = 3, 0.3


@dataclass(frozen=True)
class Part:
    """What moves in the inner loop of one learner."""

    name: str
    is_head: bool

    @property
    def options(self) -> dict[str, object]:
        return {"name": self.name, "inner_lr": RATE, "inner_steps": STEPS}

    def of(self, params: Params) -> Params:
        return {n: p for n, p in params.items() if n.startswith(HEADS) is self.is_head}


PARTS = pytest.mark.parametrize(
    "part", [Part("anil", is_head=True), Part("boil", is_head=False)], ids=lambda part: part.name
)


@PARTS
@pytest.mark.parametrize("model", MODELS)
def test_the_meta_gradient_is_that_of_the_papers_equation(model: str, part: Part) -> None:
    episode = classification_episode(seed=1)
    support_loss, query_loss = (loss_of(model, s) for s in (episode.support, episode.query))

    def loss_after_adaptation(params: Params) -> Tensor:
        for _ in range(STEPS):
            slope = grad(support_loss)(params)
            params = params | {n: p - RATE * slope[n] for n, p in part.of(params).items()}
        return query_loss(params)

    learner = make_learner(episode, model=MODELS[model], learner=part.options)
    assert_differentiates(learner, random_state(learner), episode, loss_after_adaptation)


@PARTS
def test_the_other_part_does_not_move_and_anil_sees_the_support_set_once(part: Part) -> None:
    episode = classification_episode(seed=5)
    learner = make_learner(episode, model=TINY_MLP, learner=part.options)
    state = random_state(learner)

    memory = learner.adapt(state, episode.support, 3).memory  # type: ignore[attr-defined]

    features = {"fast.support features"} if part.is_head else set()
    moved = {f"fast.{name}": value for name, value in part.of(state.params).items()}
    assert memory.keys() == moved.keys() | features
    assert all(bool((memory[name] != value).any()) for name, value in moved.items())


def test_batch_norm_for_each_step_is_refused_by_anil() -> None:
    model = TINY_CONV4 | {"batch_norm": "per_step"}
    with pytest.raises(ConfigError, match="batch_norm='per_step' but learner 'anil'"):
        make_learner(classification_episode(), model=model, learner={"name": "anil"})
