"""What names classes have, and in what order examples come, changes no answer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metafleet.episode import ExampleSet
from metafleet.params import MetaState
from tests.unit.metafleet.few_shot import TINY_MLP, classification_episode, make_learner

HEADED: dict[str, dict[str, Any]] = {
    "maml": {},
    "anil": {},
    "boil": {},
    "meta_sgd": {"inner_steps": 2},
    "meta_curvature": {},
    "maml_plus_plus": {},
    "imaml": {"inner_steps": 3},
    "reptile": {"inner_steps_eval": 3, "inner_batch_eval": 0},
    "cavia": {"inner_steps": 2},
}
EMBEDDING: dict[str, dict[str, Any]] = {
    "protonet": {},
    "matchingnet": {},
    "relationnet": {},
    "r2d2": {},
    "metaoptnet": {},
    "protomaml": {},
    "sklearn_head": {},
}
READS_A_SET = {**HEADED, **EMBEDDING, "cnp": {}, "anp": {}}
PERM = torch.tensor([2, 0, 1])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def answer(name: str, options: dict[str, Any], *, order: Tensor, relabel: bool) -> Tensor:
    """Predict an episode's queries, its support set in another order or with classes renamed."""
    episode = classification_episode(seed=2)
    learner = make_learner(episode, model=TINY_MLP, learner={"name": name, **options})
    first = learner.init_state(1)
    params = {n: v.double() for n, v in first.params.items()}
    targets = episode.support.targets
    if relabel:
        targets = PERM[targets]
        for part in ("weight", "bias"):  # class k is now PERM[k], and so is its row
            if name in HEADED:
                head = params[f"layer2.{part}"]
                params[f"layer2.{part}"] = torch.empty_like(head).index_copy(0, PERM, head)
    inputs = {n: x[order] for n, x in episode.support.inputs.items()}
    support = ExampleSet(inputs, targets[order])
    return learner.predict(MetaState(params, first.buffers), support, episode.query.inputs, 3)


AS_IT_IS = torch.arange(6)


@pytest.mark.parametrize(("name", "options"), READS_A_SET.items(), ids=READS_A_SET)
def test_the_order_of_the_support_set_does_not_matter(name: str, options: dict[str, Any]) -> None:
    outputs = answer(name, options, order=AS_IT_IS, relabel=False)
    shuffled = answer(name, options, order=torch.tensor([4, 0, 5, 2, 1, 3]), relabel=False)

    torch.testing.assert_close(shuffled, outputs, rtol=1e-5, atol=1e-7)
    assert float(outputs.std(dim=0).min()) > 1e-4


@pytest.mark.parametrize(("name", "options"), (HEADED | EMBEDDING).items(), ids=HEADED | EMBEDDING)
def test_renaming_the_classes_renames_the_answers(name: str, options: dict[str, Any]) -> None:
    outputs = answer(name, options, order=AS_IT_IS, relabel=False)
    renamed = answer(name, options, order=AS_IT_IS, relabel=True)

    torch.testing.assert_close(renamed[:, PERM], outputs, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(renamed, outputs)
