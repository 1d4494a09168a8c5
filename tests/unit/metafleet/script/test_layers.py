"""What a module's own layers do inside a learner: batch norm, dropout, recurrence, attention."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad

from metafleet import MetaLearner
from tests.unit.metafleet.script.modules import conv_net, image_episode

MODES = ("transductive", "support", "running", "frozen")


def judged_with(mode: str, module: nn.Module, n_query: int) -> Tensor:
    """Predict the first query of an episode, shown with ``n_query`` of them."""
    support_x, support_y, query_x, _ = image_episode(5)
    meta = MetaLearner(copy.deepcopy(module), "maml", batch_norm=mode, inner_steps=1)
    return meta.adapt((support_x, support_y))(query_x[:n_query])[0]


def test_the_modes_of_batch_norm_are_told_apart() -> None:
    module = conv_net()
    for seed in range(5):  # running statistics that are neither 0 and 1 nor a batch's
        module(3.0 + 2.0 * image_episode(seed)[0])

    alone = {mode: judged_with(mode, module, 4) for mode in MODES}
    among = {mode: judged_with(mode, module, 9) for mode in MODES}

    for mode in MODES:
        depends = not torch.allclose(alone[mode], among[mode], rtol=1e-4, atol=1e-5)
        assert depends == (mode == "transductive"), mode
    assert torch.equal(alone["running"], alone["frozen"])  # they differ in meta-training alone
    for one, other in (("transductive", "support"), ("support", "running")):
        assert not torch.allclose(alone[one], alone[other], rtol=1e-3)
    running, frozen = (
        MetaLearner(copy.deepcopy(module), batch_norm=mode).optimize([image_episode(5)]).loss
        for mode in ("running", "frozen")
    )
    assert running != pytest.approx(frozen, rel=1e-3)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_judging_normalises_as_the_module_in_evaluation_mode_does(eps: float) -> None:
    module = conv_net(eps=eps)
    for seed in range(3):
        module(3.0 + 2.0 * image_episode(seed)[0])
    support_x, support_y, query_x, _ = image_episode(5)

    adapted = MetaLearner(module, "maml", inner_lr=0.05, inner_steps=1).adapt(
        (support_x, support_y)
    )

    slope = grad(
        lambda p: F.cross_entropy(functional_call(module.eval(), p, (support_x,)), support_y)
    )(dict(module.named_parameters()))
    moved = {n: p - 0.05 * slope[n] for n, p in module.named_parameters()}
    expected = functional_call(module, moved, (query_x,))
    torch.testing.assert_close(adapted(query_x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_move_once_an_outer_step_by_the_layers_momentum(
    eps: float, momentum: float | None
) -> None:
    module = conv_net(eps=eps, momentum=momentum)
    support_x, _, query_x, _ = episode = image_episode()
    first = copy.deepcopy(module[0])
    meta = MetaLearner(module, "protonet", optimiser=lambda p: torch.optim.SGD(p, lr=0.0))

    meta.optimize([episode])
    meta.optimize([episode])

    seen = first(torch.cat([support_x, query_x])).transpose(0, 1).flatten(1)
    weight = 1.0 - 0.7**2 if momentum is not None else 1.0
    torch.testing.assert_close(module[1].running_mean, weight * seen.mean(dim=1).detach())
    expected = (1.0 - weight) + weight * seen.var(dim=1).detach()
    torch.testing.assert_close(module[1].running_var, expected, rtol=1e-4, atol=1e-5)
    assert int(module[1].num_batches_tracked) == 2


def test_inner_steps_and_judging_write_no_statistics_and_modes_come_back() -> None:
    module = conv_net(dropout=0.5)
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    meta = MetaLearner(module, "maml")

    meta.evaluate([image_episode()])
    meta.adapt(image_episode()[:2])(image_episode()[2])

    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())
    assert [m.training for m in module] == [i != 1 for i in range(len(module))]
    assert all("forward" not in layer.__dict__ for layer in module.modules())


def test_dropout_draws_by_place_and_leaves_torchs_generator_alone() -> None:
    def gradient_norms(seed: int) -> list[float]:
        meta = MetaLearner(conv_net(dropout=0.5), "maml", seed=seed, inner_steps=1)
        norms = [meta.optimize([image_episode()]).grad_norm for _ in range(2)]
        assert meta.evaluate([image_episode()]) == meta.evaluate([image_episode()])
        return norms

    conv_net()  # it seeds the generator
    before = torch.random.get_rng_state()
    one = gradient_norms(1)
    conv_net()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    assert gradient_norms(1) == one
    assert gradient_norms(2) != one
    quiet = MetaLearner(conv_net().eval(), "maml", inner_steps=1)
    assert quiet.optimize([image_episode()]).grad_norm not in one


class Reader(nn.Module):
    """Reads rows of pictures with a recurrent or an attentive encoder."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.encoder: nn.Module = nn.TransformerEncoderLayer(
                12, 2, 8, dropout=0.0, batch_first=True, activation="gelu"
            )
        else:
            self.encoder = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](12, 12, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)
        read = self.encoder(rows)
        return self.out((read if self.kind == "attention" else read[0]).mean(dim=1))


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", ["lstm", "gru", "attention"])
def test_encoders_of_torch_have_a_second_order_gradient_that_is_right(
    kind: str, mode: bool
) -> None:
    torch.manual_seed(0)
    module = Reader(kind).double().train(mode)
    episode = image_episode()

    def step() -> tuple[float, dict[str, Tensor]]:
        """Return the loss after adaptation, and the meta-gradient, at the module as it is."""
        copied = copy.deepcopy(module)
        meta = MetaLearner(
            copied, optimiser=lambda p: torch.optim.SGD(p, lr=1.0), inner_lr=0.5, inner_steps=2
        )
        loss = meta.optimize([episode]).loss
        moved = dict(copied.named_parameters())
        return loss, {n: (p - moved[n]).detach() for n, p in module.named_parameters()}

    gradient = step()[1]
    for name, value in module.named_parameters():
        direction = torch.randn_like(value)
        losses = []
        for sign in (1.0, -2.0):
            with torch.no_grad():
                value.add_(sign * 1e-5 * direction)
            losses.append(step()[0])
        with torch.no_grad():
            value.add_(1e-5 * direction)
        expected = (losses[0] - losses[1]) / 2e-5
        found = float((gradient[name] * direction).sum())
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), name
