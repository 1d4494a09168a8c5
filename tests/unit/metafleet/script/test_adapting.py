"""Which parts of a module adapt, and the adapted module that predicts."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from metafleet import MetaLearner
from metafleet.errors import ConfigError, DataError
from tests.unit.metafleet.script.by_hand import meta_gradient, sgd, values_of
from tests.unit.metafleet.script.modules import (
    Tied,
    conv_net,
    dense_net,
    image_episode,
    vector_episode,
)


def test_what_has_adapted_runs_with_its_own_parameters_whatever_is_learned_later() -> None:
    module = dense_net()
    meta = MetaLearner(module, "maml", inner_lr=0.3, inner_steps=3)
    support_x, support_y, query_x, _ = vector_episode()

    adapted = meta.adapt((support_x, support_y))
    outputs = adapted(query_x)
    meta.optimize([vector_episode(1)])

    assert torch.equal(adapted(query_x), outputs)
    assert adapted.params.keys() == values_of(module).keys()
    again = functional_call(module, adapted.params, (query_x.double(),))
    torch.testing.assert_close(again, outputs)
    assert not torch.equal(meta.adapt((support_x, support_y))(query_x), outputs)


def test_anil_adapts_the_named_head_alone_and_protonet_embeds_before_it() -> None:
    module = conv_net()
    support_x, support_y, query_x, _ = image_episode()

    adapted = MetaLearner(module, "anil", head="9").adapt((support_x, support_y))
    logits = MetaLearner(module, "protonet", head="9", batch_norm="running").adapt(
        (support_x, support_y)
    )(query_x)

    assert {"9.weight", "9.bias"} == {n for n in adapted.params if "features" not in n}
    embed = copy.deepcopy(module)[:9].eval()
    means = torch.stack([embed(support_x)[support_y == k].mean(dim=0) for k in range(3)])
    expected = -((embed(query_x)[:, None] - means) ** 2).sum(dim=2)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-4)


def test_frozen_parameters_neither_adapt_nor_learn() -> None:
    module = dense_net()
    frozen = module[0].weight.requires_grad_(False)
    before = frozen.clone()
    meta = MetaLearner(module, "maml", optimiser=sgd, inner_lr=0.3)

    meta.optimize([vector_episode()])
    adapted = meta.adapt(vector_episode()[:2])

    assert torch.equal(frozen, before)
    assert "0.weight" not in adapted.params
    assert "0.bias" in adapted.params


@pytest.mark.parametrize(
    ("algorithm", "frozen"),
    [("maml", ""), ("imaml", ""), ("mmaml", ""), ("reptile", ""), ("anil", "2"), ("boil", "0")],
)
def test_a_learner_that_would_adapt_nothing_says_so(algorithm: str, frozen: str) -> None:
    module = dense_net()
    module.get_submodule(frozen).requires_grad_(False)
    meta = MetaLearner(module, algorithm, head="2")
    mapped = MetaLearner(module, algorithm, head="2", execution="vmap")
    told = f"learner '{algorithm}' has nothing to adapt: all the parameters"

    with pytest.raises(ConfigError, match=told):
        meta.adapt(vector_episode()[:2])
    with pytest.raises(ConfigError, match=told):
        meta.evaluate([vector_episode()])
    for trained in (meta, mapped):
        with pytest.raises(ConfigError, match=r"has nothing to (adapt: all the|learn of this)"):
            trained.optimize([vector_episode()])


def test_embeddings_of_a_frozen_module_are_compared_and_not_learned() -> None:
    meta = MetaLearner(dense_net().requires_grad_(False), "protonet")

    assert meta.adapt(vector_episode()[:2])(vector_episode()[2]).shape == (9, 3)
    with pytest.raises(ConfigError, match="'protonet' has nothing to learn of this module"):
        meta.optimize([vector_episode()])


def test_tied_parameters_stay_tied_while_they_adapt() -> None:
    torch.manual_seed(0)
    module = Tied().double()
    x = torch.randn(6, 5, dtype=torch.float64)
    episode = (x[:4], x[:4], x[4:], x[4:])
    expected = meta_gradient(module, episode, F.mse_loss, steps=2, lr=0.1)
    before = values_of(module)

    MetaLearner(module, optimiser=sgd, inner_lr=0.1, inner_steps=2).optimize([episode])

    assert module.decode.weight is module.encode.weight
    moved = before["encode.weight"] - module.encode.weight
    torch.testing.assert_close(moved, expected["encode.weight"], rtol=1e-9, atol=1e-12)
    with pytest.raises(ConfigError, match="shares 'weight' with the body"):
        MetaLearner(module, "anil", head="decode")


class Conditioned(nn.Module):
    """Takes two inputs by name, and CAVIA's context."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5 + 3 + 2, 2)

    def forward(self, left: Tensor, right: Tensor, context: Tensor) -> Tensor:
        return self.layer(torch.cat([left, right, context], dim=1))


def test_inputs_come_by_name_and_cavia_adds_its_own() -> None:
    torch.manual_seed(0)
    meta = MetaLearner(Conditioned(), "cavia", n_context=2, inner_lr=0.5)
    inputs = {"left": torch.randn(6, 5), "right": torch.randn(6, 3)}
    y = torch.randn(6, 2)

    report = meta.optimize([(inputs, y, inputs, y)])

    assert report.loss < float((y**2).mean() * 3)
    adapted = meta.adapt((inputs, y))
    assert adapted.params["context"].shape == (2,)
    assert not torch.equal(adapted.params["context"], torch.zeros(2))
    assert adapted(inputs).shape == (6, 2)


def test_a_fixed_head_takes_episodes_that_lack_classes_and_an_embedding_takes_any() -> None:
    x, y = torch.randn(4, 5), torch.tensor([0, 0, 1, 1])
    meta = MetaLearner(dense_net(), "maml")
    meta.optimize([(x, y, x, y), vector_episode()])
    assert meta.adapt((x, y))(x).shape == (4, 3)
    with pytest.raises(DataError, match="5 classes but the module has 3 outputs"):
        meta.optimize([vector_episode(n_way=5)])

    embedding = MetaLearner(dense_net(), "protonet")
    embedding.optimize([vector_episode(), vector_episode(n_way=5)])
    with pytest.raises(ConfigError, match="learns an output layer of fixed size"):
        reader = MetaLearner(dense_net(), "snail", filters=4)
        reader.optimize([vector_episode(), vector_episode(n_way=5)])


def test_a_prediction_copies_nothing_of_a_module_that_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y, query_x, _ = vector_episode()
    adapted = MetaLearner(dense_net()).adapt((x, y))
    expected = adapted(query_x)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the state of the module was copied")

    monkeypatch.setattr("metafleet.purity.hidden_state.HiddenState.capture", refuse)
    assert torch.equal(adapted(query_x), expected)
