"""A plain loop over ``MetaLearner.optimize`` learns what it should."""

import copy

import pytest
import torch
import torch.nn.functional as F

from metafleet import LEARNERS, Episode, ExampleSet, InnerLoopLearner, MetaLearner
from metafleet.errors import ConfigError, NumericsError
from metafleet.learners.maml import Maml
from tests.unit.metafleet.script.by_hand import meta_gradient, sgd, values_of
from tests.unit.metafleet.script.modules import (
    conv_net,
    dense_net,
    image_episode,
    value_episode,
    vector_episode,
)

SMALL = {
    "cavia": {"conditioning": "film"},
    "mmaml": {"units": 4, "layers": 1},
    "mann": {"units": 8, "slots": 4, "width": 4, "reads": 1},
    "snail": {"filters": 4},
    "cnp": {"hidden": 8},
    "anp": {"hidden": 8, "latent": 4},
    "reptile": {"inner_steps_eval": 2},
    "imaml": {"inner_steps": 2, "cg_steps": 2},
}
OF_NAMES = {"zero_shot", "text_prototypes", "tip_adapter", "lp_plus_plus"}
"""Learners that need features of the names of classes, which no episode of a script has."""


@pytest.mark.parametrize(
    ("loss", "make"),
    [
        (None, vector_episode),
        (None, value_episode),
        (F.smooth_l1_loss, value_episode),
        (lambda o, t: F.cross_entropy(o, t, label_smoothing=0.2), vector_episode),
    ],
    ids=["cross-entropy", "squared error", "smooth l1", "smoothed labels"],
)
def test_a_step_follows_the_mean_second_order_gradient_of_any_loss(loss, make) -> None:
    episodes = [make(seed) for seed in range(3)]
    module = dense_net(n_outputs=2 if make is value_episode else 3)
    before = values_of(module)
    by_hand = loss or (F.mse_loss if make is value_episode else F.cross_entropy)
    each = [meta_gradient(module, e, by_hand, steps=2, lr=0.3) for e in episodes]

    meta = MetaLearner(module, "maml", loss=loss, optimiser=sgd, inner_lr=0.3, inner_steps=2)
    report = meta.optimize(episodes)

    expected = {name: sum(g[name] for g in each) / 3 for name in before}
    for name, value in module.named_parameters():
        assert bool((expected[name] != 0).any())
        torch.testing.assert_close(before[name] - value, expected[name], rtol=1e-9, atol=1e-12)
        assert value.grad is None
    norm = torch.cat([g.flatten() for g in expected.values()]).norm()
    assert report.grad_norm == pytest.approx(float(norm))
    assert report.step == meta.step == 1
    assert len(report.episodes) == 3


def test_a_long_gradient_is_clipped() -> None:
    module = dense_net()
    before = values_of(module)
    meta = MetaLearner(module, optimiser=sgd, clip_norm=0.01, inner_lr=0.3)

    report = meta.optimize([vector_episode()])

    moved = torch.cat([(before[n] - v).flatten() for n, v in module.named_parameters()])
    assert report.grad_norm > 0.1
    assert float(moved.detach().norm()) == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("name", sorted(set(LEARNERS) - OF_NAMES - {"nearest_prototype"}))
def test_every_learner_takes_a_plain_module(name: str) -> None:
    module = conv_net()
    before = values_of(module)
    meta = MetaLearner(module, name, head="9", **SMALL.get(name, {}))

    first = meta.optimize([image_episode(0), image_episode(1)])
    meta.optimize(image_episode(seed) for seed in (2, 3))

    assert first.accuracy is not None
    assert any(not torch.equal(before[n], v) for n, v in module.named_parameters())
    support_x, support_y, query_x, query_y = image_episode(4)
    outputs = meta.adapt((support_x, support_y))(query_x)
    assert outputs.shape == (len(query_y), 3)
    judged = meta.evaluate([image_episode(4)])
    right = (outputs.argmax(dim=1) == query_y).double().mean()
    if name not in ("mann", "snail", "sklearn_head", "reptile"):  # what these draw differs
        assert judged.accuracy == pytest.approx(float(right))
    assert meta.step == 2


def test_training_lowers_the_loss_on_new_episodes() -> None:
    meta = MetaLearner(dense_net(), "maml", inner_lr=0.2, inner_steps=2, outer_lr=0.02)
    new = [vector_episode(1000 + i) for i in range(20)]

    before = meta.evaluate(new)
    for step in range(25):
        meta.optimize(vector_episode(8 * step + i) for i in range(8))
    after = meta.evaluate(new)

    assert after.loss + after.loss_ci95 < before.loss - before.loss_ci95


def test_a_class_of_the_users_own_serves_as_algorithm() -> None:
    class Twice(Maml):
        """MAML."""

    one, other = dense_net(), dense_net()
    MetaLearner(one, Twice, inner_lr=0.2).optimize([vector_episode()])
    MetaLearner(other, "maml", inner_lr=0.2).optimize([vector_episode()])

    assert issubclass(Twice, InnerLoopLearner)
    assert all(map(torch.equal, one.parameters(), other.parameters()))


def test_episodes_of_data_sets_and_tuples_are_the_same() -> None:
    support_x, support_y, query_x, query_y = vector_episode()
    episode = Episode(
        ExampleSet({"x": support_x}, support_y), ExampleSet({"x": query_x}, query_y), 3
    )
    one, other = dense_net(), dense_net()

    MetaLearner(one).optimize([episode])
    MetaLearner(other).optimize([vector_episode()])

    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert MetaLearner(one).adapt(episode)(query_x).shape == (9, 3)


def test_divergence_names_step_and_episode_and_changes_nothing() -> None:
    module = conv_net()
    meta = MetaLearner(module, "maml", inner_steps=1)
    meta.optimize([image_episode()])
    before = copy.deepcopy(module.state_dict())
    bad = list(image_episode(1))
    bad[0] = bad[0] * float("nan")

    with pytest.raises(NumericsError, match=r"outer step 2: episode=1: support loss is nan"):
        meta.optimize([image_episode(), tuple(bad)])
    with pytest.raises(NumericsError, match=r"^episode=0: support loss is nan"):
        meta.evaluate([tuple(bad)])

    assert meta.step == 1
    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())


def test_schedules_of_torch_drive_the_optimiser() -> None:
    meta = MetaLearner(dense_net(), outer_lr=0.1)
    with pytest.raises(ConfigError, match="no episode was seen yet; call bind"):
        _ = meta.optimiser
    meta.bind(vector_episode()[:2])
    schedule = torch.optim.lr_scheduler.ExponentialLR(meta.optimiser, gamma=0.5)

    meta.optimize([vector_episode()])
    schedule.step()

    assert meta.optimiser.param_groups[0]["lr"] == pytest.approx(0.05)
