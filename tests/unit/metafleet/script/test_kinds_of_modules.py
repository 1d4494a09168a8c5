"""Modules with complex parameters, compiled, without data, or lazy: right, or one line."""

import copy
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError
from tests.unit.metafleet.script.by_hand import sgd, values_of
from tests.unit.metafleet.script.modules import conv_net, dense_net, image_episode, vector_episode

EPISODE = tuple(t.double() if t.is_floating_point() else t for t in vector_episode())


class Rotating(nn.Module):
    """Its second layer is complex, as one parameter or as pairs of real numbers."""

    def __init__(self, *, is_complex: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Linear(5, 4).double()
        pairs = torch.randn(4, 3, 2, dtype=torch.float64)
        self.second = nn.Parameter(torch.view_as_complex(pairs) if is_complex else pairs)

    def forward(self, x: Tensor) -> Tensor:
        second = self.second if self.second.is_complex() else torch.view_as_complex(self.second)
        return ((torch.tanh(self.first(x)) + 0j) @ second).abs()


@pytest.mark.parametrize(
    ("algorithm", "execution", "options"),
    [
        *(("maml", how, {}) for how in ("autograd", "vmap", "constant_memory")),
        *(
            ("maml", how, {"inner_optimiser": "adam", "inner_epsilon": 1e-3})
            for how in ("autograd", "vmap", "constant_memory")
        ),
        ("meta_sgd", "constant_memory", {"inner_optimiser": "adamw", "inner_weight_decay": 0.1}),
        ("maml_plus_plus", "vmap", {"inner_optimiser": "nesterov"}),
        ("imaml", "autograd", {"cg_steps": 2}),
        ("reptile", "autograd", {"inner_steps_eval": 1}),
        ("protonet", "vmap", {}),
    ],
)
def test_a_complex_parameter_learns_as_two_real_ones(
    algorithm: str, execution: str, options: dict[str, object], tmp_path: Path
) -> None:
    moved, reports = [], []
    if algorithm != "protonet":
        options = options | {"inner_steps": 2}
    if algorithm == "maml":
        options |= {"inner_lr": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of imaginary parts that are discarded
        for is_complex in (True, False):
            module = Rotating(is_complex=is_complex)
            before = values_of(module)
            meta = MetaLearner(module, algorithm, optimiser=sgd, execution=execution, **options)
            reports.append(meta.optimize([EPISODE]))
            moved.append([before[n] - v.detach() for n, v in module.named_parameters()])
            meta.save(tmp_path / "meta.safetensors")
            meta.load(tmp_path / "meta.safetensors")

    if algorithm != "meta_sgd":  # a step size for each number: pairs have two
        assert reports[0].grad_norm == pytest.approx(reports[1].grad_norm, rel=1e-9)
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-12)
    for mine, pairs in zip(*moved, strict=True):
        assert bool((pairs != 0).any())
        real = torch.view_as_real(mine) if mine.is_complex() else mine
        torch.testing.assert_close(real, pairs, rtol=1e-8, atol=1e-11)


def test_a_loop_on_complex_parameters_is_that_on_pairs() -> None:
    found = []
    for is_complex in (True, False):
        module = Rotating(is_complex=is_complex)
        meta = MetaLearner(
            module, inner_steps=2, inner_optimiser="adam", inner_weight_decay=0.1, inner_lr=0.1
        )
        for seed in range(3):
            x, y = vector_episode(seed)[:2]
            meta.optimize(F.cross_entropy(module(x.double()), y))
        assert meta.step == 1
        found.append(module.second.detach())
    torch.testing.assert_close(torch.view_as_real(found[0]), found[1], rtol=1e-8, atol=1e-11)


def test_moments_of_complex_parameters_are_saved(tmp_path: Path) -> None:
    path, metas = tmp_path / "meta.safetensors", []
    for _ in range(2):
        metas.append(MetaLearner(Rotating(is_complex=True), inner_steps=1, outer_lr=0.1))
    metas[0].optimize([EPISODE])
    metas[0].save(path)
    metas[1].load(path)

    for meta in metas:
        meta.optimize([EPISODE])

    assert all(map(torch.equal, metas[0].module.parameters(), metas[1].module.parameters()))


@pytest.mark.parametrize("how", ["as a whole", "in place", "a layer"])
def test_a_compiled_module_learns_as_it_would_uncompiled(how: str, tmp_path: Path) -> None:
    plain = conv_net()
    module: nn.Module = copy.deepcopy(plain)
    if how == "as a whole":
        module = torch.compile(module, backend="aot_eager")
    elif how == "in place":
        module.compile(backend="aot_eager")
    else:
        module[4] = torch.compile(module[4], backend="aot_eager")
    for one in (module, plain):  # it is compiled by now, and batch norm has moved
        one(image_episode()[0])

    metas = [MetaLearner(m, "anil", head="9", inner_steps=2) for m in (module, plain)]
    reports = [meta.optimize([image_episode(1), image_episode(2)]) for meta in metas]
    judged = [meta.evaluate([image_episode(3)]) for meta in metas]

    assert reports[0] == reports[1]
    assert judged[0] == judged[1]
    assert all(map(torch.equal, module.parameters(), plain.parameters()))
    if how != "a layer":  # which has another name, wrapped
        metas[0].save(tmp_path / "meta.safetensors")
        metas[1].load(tmp_path / "meta.safetensors")


def test_a_compiled_module_runs_compiled_in_a_loop_of_the_users() -> None:
    plain = dense_net()
    calls = []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    module = torch.compile(copy.deepcopy(plain), backend=backend)
    for one in (module, plain):
        meta = MetaLearner(one, inner_lr=0.1, inner_steps=2)
        for seed in range(3):
            x, y = vector_episode(seed)[:2]
            meta.optimize(F.cross_entropy(meta(x.double()), y))
        assert meta.step == 1

    assert calls
    for mine, expected in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)


def test_a_module_without_data_is_refused_and_says_how_to_get_some() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    with pytest.raises(ConfigError, match=r"'0.weight' of the module has no data.*to_empty") as at:
        MetaLearner(module)
    assert "\n" not in str(at.value)
    MetaLearner(module.to_empty(device="cpu"))


def test_a_lazy_module_learns_once_it_has_run() -> None:
    module = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3))
    meta = MetaLearner(module, inner_steps=1)
    assert "Sequential of 0 parameters" in repr(meta)
    with pytest.raises(ConfigError, match="lazy parameters; run it once"):
        meta.optimize([vector_episode()])

    for seed in range(2):
        x, y = vector_episode(seed)[:2]
        meta.optimize(F.cross_entropy(module(x), y))

    assert meta.step == 1
    assert "Sequential of 39 parameters" in repr(meta)
    assert meta.optimize([vector_episode()]).step == 2
