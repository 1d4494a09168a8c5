"""Incompatible choices are reported at once."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError
from tests.unit.metafleet.script.by_hand import values_of
from tests.unit.metafleet.script.modules import (
    Tied,
    conv_net,
    dense_net,
    value_episode,
    vector_episode,
)


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
        (
            lambda: MetaLearner(dense_net(), batch_norm="running1"),
            "batch_norm='running1'; expected one of 'transductive', .* or None",
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
