import copy

import pytest
import torch
from torch import Tensor, nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError, NumericsError
from tests.unit.metafleet.script.modules import conv_net, dense_net, image_episode, vector_episode
from tests.unit.metafleet.script.test_layers import Reader


def step_of(module: nn.Module, execution: str, algorithm: str, **options) -> dict[str, Tensor]:
    """Return the module's state after two outer steps, as far as they moved it."""
    module = copy.deepcopy(module)
    meta = MetaLearner(
        module,
        algorithm,
        execution=execution,
        optimiser=lambda params: torch.optim.SGD(params, lr=0.1),
        **options,
    )
    for seed in (0, 3):
        meta.optimize(image_episode(seed + i) for i in range(3))
    return module.state_dict()


@pytest.mark.parametrize("execution", ["vmap", "constant_memory"])
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("maml", {"inner_lr": 0.1, "inner_steps": 3}),
        ("maml", {"inner_lr": 0.1, "inner_steps": 2, "batch_norm": "support"}),
        ("anil", {"head": "9", "inner_steps": 2}),
        ("meta_sgd", {"inner_steps": 2, "batch_norm": "transductive"}),
        ("cavia", {"conditioning": "film", "inner_lr": 0.2, "inner_steps": 2}),
    ],
    ids=["maml", "support", "anil", "meta_sgd", "film"],
)
def test_every_execution_gives_the_same_step(execution: str, algorithm: str, options) -> None:
    module = conv_net().double()

    plain = step_of(module, "autograd", algorithm, **options)
    found = step_of(module, execution, algorithm, **options)

    assert any(not torch.equal(v, module.state_dict()[n]) for n, v in plain.items())
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=name)


def test_an_attentive_encoder_can_be_mapped() -> None:
    torch.manual_seed(0)
    module = Reader("attention").double()

    plain = step_of(module, "autograd", "maml", inner_lr=0.2, inner_steps=2)
    found = step_of(module, "vmap", "maml", inner_lr=0.2, inner_steps=2)

    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=name)


def test_dropout_is_refused_where_episodes_are_mapped() -> None:
    meta = MetaLearner(conv_net(dropout=0.5), execution="vmap")
    with pytest.raises(ConfigError, match="layer '8' drops out at random"):
        meta.optimize([image_episode()])
    meta.module[8].eval()
    meta.optimize([image_episode()])


def test_divergence_among_mapped_episodes_names_the_one() -> None:
    meta = MetaLearner(conv_net(), execution="vmap", inner_steps=1)
    bad = list(image_episode(1))
    bad[0] = bad[0] * float("nan")
    with pytest.raises(NumericsError, match=r"outer step 1: episode=1: support loss is nan"):
        meta.optimize([image_episode(), tuple(bad), image_episode(2)])


class Choosing(nn.Module):
    """Branches on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = dense_net()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum().item() > 0.0 else -self.layer(x)


def test_a_module_that_branches_on_values_is_not_mapped_and_the_line_says_so() -> None:
    meta = MetaLearner(Choosing(), execution="vmap", inner_steps=1)

    with pytest.raises(ConfigError, match=r"cannot be mapped .*choose execution='autograd'") as at:
        meta.optimize([vector_episode(), vector_episode(1)])

    assert "\n" not in str(at.value)
    assert meta.step == 0


def test_what_a_generator_of_episodes_raises_is_passed_on_where_they_are_mapped() -> None:
    def broken():
        yield vector_episode()
        raise LookupError("no more files")

    with pytest.raises(LookupError, match="no more files"):
        MetaLearner(dense_net(), execution="vmap", inner_steps=1).optimize(broken())


def test_an_unknown_execution_is_named() -> None:
    with pytest.raises(ConfigError, match="execution='compiled'; expected one of 'autograd'"):
        MetaLearner(dense_net(), execution="compiled")
