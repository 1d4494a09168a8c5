import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad

from metafleet import LEARNERS, Episode, ExampleSet, InnerLoopLearner, MetaLearner
from metafleet.errors import ConfigError, DataError, NumericsError
from metafleet.learners.maml import Maml
from tests.unit.script.modules import (
    Plain,
    conv_net,
    dense_net,
    image_episode,
    value_episode,
    vector_episode,
)

Loss = Callable[[Tensor, Tensor], Tensor]
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


def sgd(params) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=1.0)


def values_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def meta_gradient(module: nn.Module, episode: Plain, loss: Loss, *, steps: int, lr: float):
    """MAML by hand: the query loss after gradient steps, differentiated by torch.func."""
    support_x, support_y, query_x, query_y = (
        t.double() if t.is_floating_point() else t for t in episode
    )

    def adapted_loss(params):
        for _ in range(steps):
            slope = grad(lambda p: loss(functional_call(module, p, (support_x,)), support_y))(
                params
            )
            params = {n: p - lr * slope[n] for n, p in params.items()}
        return loss(functional_call(module, params, (query_x,)), query_y)

    return grad(adapted_loss)(values_of(module))


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


@pytest.mark.parametrize("name", sorted(set(LEARNERS) - {"nearest_prototype"}))
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


class Tied(nn.Module):
    """Encodes and decodes with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(5, 5, bias=False)
        self.decode = nn.Linear(5, 5, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(torch.tanh(self.encode(x)))


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


def test_a_class_of_the_users_own_serves_as_algorithm() -> None:
    class Twice(Maml):
        """MAML."""

    one, other = dense_net(), dense_net()
    MetaLearner(one, Twice, inner_lr=0.2).optimize([vector_episode()])
    MetaLearner(other, "maml", inner_lr=0.2).optimize([vector_episode()])

    assert issubclass(Twice, InnerLoopLearner)
    assert all(map(torch.equal, one.parameters(), other.parameters()))


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


class Reshaping(nn.Module):
    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(5, 4), nn.Linear(4, 3)
        self.change = change

    def forward(self, x: Tensor) -> object:
        return self.change(self.fc(torch.relu(self.body(x))))


class TwoToTheHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(5, 4), nn.Bilinear(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.body(x))
        return self.head(h, h)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MetaLearner(dense_net(), "mamml"), "there is no learner 'mamml'|learner 'mamml'"),
        (lambda: MetaLearner(dense_net(), iner_lr=0.1), "has no option 'iner_lr'"),
        (lambda: MetaLearner(dense_net(), outer_lr=0.0), "outer_lr=0.0; expected more than 0"),
        (lambda: MetaLearner(dense_net(), outer_lr="1e-3"), "outer_lr='1e-3'; expected a finite"),
        (lambda: MetaLearner(dense_net(), outer_lr=None), "outer_lr=None; expected a finite"),
        (lambda: MetaLearner(dense_net(), outer_lr=True), "outer_lr=True; expected a finite"),
        (
            lambda: MetaLearner(dense_net(), outer_lr=float("nan")),
            "outer_lr=nan; expected a finite",
        ),
        (lambda: MetaLearner(dense_net(), clip_norm="1"), "clip_norm='1'; expected a finite"),
        (lambda: MetaLearner(Tied), r"module is the class Tied; expected an instance.* Tied\("),
        (lambda: MetaLearner("conv4"), "module is 'conv4'; expected a torch.nn.Module"),
        (lambda: MetaLearner(F.relu), "module is a function; expected a torch.nn.Module"),
        (lambda: MetaLearner(dense_net(), loss="mse"), "loss is 'mse'; expected a function"),
        (
            lambda: MetaLearner(dense_net(), loss=nn.MSELoss),
            r"loss is the class MSELoss; expected an instance, such as MSELoss\(\)",
        ),
        (lambda: MetaLearner(dense_net(), optimiser="sgd"), "optimiser is 'sgd'; expected a func"),
        (
            lambda: MetaLearner(dense_net(), optimiser=torch.optim.Adam(dense_net().parameters())),
            "optimiser is a Adam; expected a function of the parameters",
        ),
        (lambda: MetaLearner(dense_net(), head="fc"), "head='fc' but the module's submodules are"),
        (lambda: MetaLearner(nn.Flatten()), "the module has no parameters"),
        (lambda: MetaLearner(conv_net(), head="1"), "head='1' has batch norm"),
        (lambda: MetaLearner(dense_net(), head="1"), "head='1' has no parameters"),
        (lambda: MetaLearner(dense_net(), seed=-1), "seed=-1; expected a whole number"),
        (
            lambda: MetaLearner(dense_net(), dict),
            "algorithm is <class 'dict'>; expected",
        ),
        (lambda: MetaLearner(dense_net(), 3), "algorithm is 3; expected a learner's name"),
    ],
)
def test_a_wrong_choice_is_named_at_once(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MetaLearner(dense_net(), "anil"),
            r"must know the module's output layer.*head='2'",
        ),
        (lambda: MetaLearner(dense_net(), "boil"), "must know the module's output layer"),
        (lambda: MetaLearner(dense_net(2)), "the module has 2 outputs but the episode 3 classes"),
        (lambda: MetaLearner(dense_net(), "cavia"), "further input 'context'"),
        (lambda: MetaLearner(dense_net(), "relationnet", loss=F.cross_entropy), "loss of its own"),
        (
            lambda: MetaLearner(dense_net(), batch_norm="running1"),
            "batch_norm='running1'; expected",
        ),
        (
            lambda: MetaLearner(dense_net(), loss=nn.CrossEntropyLoss(reduction="none")),
            r"the loss returns \(6,\); expected a scalar",
        ),
        (
            lambda: MetaLearner(dense_net(), optimiser=lambda params: None),
            "optimiser returns a NoneType; expected a function of the parameters",
        ),
        (
            lambda: MetaLearner(Reshaping(torch.tanh), "anil", head="fc"),
            "head='fc' is not the last thing the module computes",
        ),
        (
            lambda: MetaLearner(dense_net(), "anil", head="0"),
            "head='0' is not the last thing the module computes",
        ),
        (
            lambda: MetaLearner(nn.Sequential(dense_net(4), nn.Linear(4, 3).double()), head="0.2"),
            "head='0.2' is not the last thing the module computes",
        ),
        (lambda: MetaLearner(Reshaping(lambda x: (x,))), "the module returns a tuple"),
        (lambda: MetaLearner(Reshaping(Tensor.detach)), "outputs do not depend on its parameters"),
        (
            lambda: MetaLearner(Reshaping(Tensor.detach), "protonet"),
            "outputs do not depend on its parameters",
        ),
        (
            lambda: MetaLearner(TwoToTheHead(), "protonet", head="head"),
            r"head='head' is called with \(Tensor, Tensor\); expected one tensor alone",
        ),
        (lambda: MetaLearner(nn.Linear(4, 3)), r"cannot be run on examples of shape \(5,\)"),
        (
            lambda: MetaLearner(Reshaping(lambda x: x[:, None])),
            r"outputs have shape \(1, 3\) for one example but targets are classes",
        ),
        (lambda: MetaLearner(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3))), "lazy parameters"),
    ],
)
def test_what_does_not_fit_is_named_when_the_first_episode_comes(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make().optimize([vector_episode()])


@pytest.mark.parametrize(
    ("algorithm", "execution"),
    [
        *((name, how) for name in ("maml", "reptile", "protonet") for how in ("autograd", "vmap")),
        ("maml", "constant_memory"),
    ],
)
@pytest.mark.parametrize(
    "loss",
    [lambda o, t: F.cross_entropy(o.detach(), t), lambda o, t: torch.tensor(1.0)],
    ids=["detached", "constant"],
)
def test_a_loss_without_parameters_is_refused_and_changes_nothing(
    loss, algorithm: str, execution: str
) -> None:
    module = dense_net()
    before = values_of(module)

    meta = MetaLearner(module, algorithm, loss=loss, execution=execution)
    with pytest.raises(ConfigError, match="the loss does not depend on the module's parameters"):
        meta.optimize([vector_episode(), vector_episode(1)])

    assert meta.step == 0
    assert all(torch.equal(v, before[n]) for n, v in module.named_parameters())


def test_a_loss_may_be_constant_for_a_later_episode() -> None:
    def masked(outputs: Tensor, targets: Tensor) -> Tensor:
        kept = targets < 100
        return F.mse_loss(outputs[kept], targets[kept]) if kept.any() else torch.tensor(0.0)

    x, y, *query = value_episode()
    meta = MetaLearner(dense_net(2), "maml", loss=masked)

    report = meta.optimize([(x, y, *query), (x, y + 1000, query[0], query[1] + 1000)])

    assert report.episodes[0].loss > report.episodes[1].loss == 0.0
