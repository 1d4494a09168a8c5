"""Plain modules by name: constructor arguments are options, bits are the same everywhere."""

from pathlib import Path
from typing import Any

import pytest
import torch

from metafleet import MetaLearner
from metafleet.errors import ConfigError, ImpureError
from metafleet.execution import Strategy
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.inference.provenance import Provenance
from metafleet.params import digest, flatten_state
from metafleet.workload import Workload, WorkloadSpec
from tests.unit.metafleet.few_shot import IMAGE, SHAPE, FakeSource

MODULES = """
from typing import Literal

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int, rate: float = 0.0, sizes: list[int] = (4,), act: Literal["relu",
                 "tanh"] = "relu", anything=None, *, num_classes: int):
        super().__init__()
        assert isinstance(sizes, (list, tuple)) and width > 0
        self.conv = nn.Conv2d(2, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(rate)
        self.register_buffer("noise", torch.randn(width))
        self.frozen = nn.Parameter(torch.randn(width), requires_grad=False)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, image):
        x = self.bn(self.conv(image.float())) + (self.noise + self.frozen)[:, None, None]
        return self.fc(self.drop(torch.relu(x).mean((2, 3))))


class Plain(nn.Module):
    def __init__(self, n_hidden=5):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(128, n_hidden))

    def forward(self, image):
        return self.net(image.float())


class Spectral(nn.Module):
    def __init__(self, n_way=3):
        super().__init__()
        self.fc = nn.utils.parametrizations.spectral_norm(nn.Linear(128, n_way))
        self.broken = False

    def forward(self, image):
        out = self.fc(image.float().flatten(1))
        if self.broken:
            raise LookupError("a fault of the module's own")
        return out


class Graph(nn.Module):
    def __init__(self, layout: str, n_way=3):
        super().__init__()
        links = torch.eye(128)
        links[0, 1] = float("nan") if layout == "nan" else 1.0
        if layout != "nan":
            links = links.to_sparse(layout=getattr(torch, layout))
        self.register_buffer("links", links)
        self.fc = nn.Linear(128, n_way)

    def forward(self, image):
        x = image.float().flatten(1)
        return self.fc(x @ torch.nan_to_num(self.links.to_dense()))


class Strange(nn.Module):
    def __init__(self, head: int, name="x", n_way: "Unknown" = 3):
        super().__init__()
        self.fc = nn.Linear(128, n_way)

    def forward(self, image):
        return self.fc(image.float().flatten(1))
"""
NAME = "modules_of_a_user.nets"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    folder = tmp_path / "modules_of_a_user"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(MODULES)
    monkeypatch.syspath_prepend(tmp_path)


def build(module: str = "Net", learner: Any = None, execution: Any = None, **options: Any) -> Any:
    spec = WorkloadSpec(
        seed=11,
        data={"name": "fake"},
        data_digest="",
        episodes={"meta_train": SHAPE, "meta_test": SHAPE},
        model={"name": f"{NAME}:{module}", **options},
        learner=learner or {"name": "maml", "inner_lr": 0.1, "inner_steps": 2},
        **({} if execution is None else {"execution": execution}),
    )
    return Workload.bind(spec, FakeSource(), allowed_packages=("modules_of_a_user",))


def gradient(workload: Workload) -> Any:
    state = workload.init_state()
    return workload.gradient(state, split="meta_train", step=1, first_episode=0, n_episodes=3)


def test_a_module_has_its_outputs_filled_in_and_the_same_bits_wherever_it_is_built() -> None:
    torch.manual_seed(1)
    first = build(width=4)
    torch.manual_seed(2)
    torch.rand(7)
    second = build(width=4)

    state = first.init_state()
    assert state.params["module.fc.weight"].shape == (SHAPE.n_way, 4)
    assert "module.frozen" not in state.params
    assert set(state.buffers) == {"bn.mean", "bn.variance"}
    assert first.batch_norm == "running"
    assert digest(flatten_state(state)) == digest(flatten_state(second.init_state()))
    one, other = gradient(first), gradient(second)
    assert digest(one.grads) == digest(other.grads)
    assert one.metrics == other.metrics
    assert all(bool((grad != 0).any()) for grad in one.grads.values())


def test_the_seed_of_a_run_decides_the_parameters_and_not_the_constants() -> None:
    learner = build(width=4).learner
    function = learner.model._function.module
    noise, frozen = function.noise.clone(), function.frozen.clone()
    one, other = learner.init_state(1), learner.init_state(2)
    assert not torch.equal(one.params["module.fc.weight"], other.params["module.fc.weight"])
    again = build(width=4).learner.model._function.module
    assert torch.equal(noise, again.noise)
    assert torch.equal(frozen, again.frozen)


def test_a_gradient_is_that_of_a_script_with_the_same_module() -> None:
    workload = build(width=4, batch_norm="transductive", head="fc")
    state = workload.init_state()
    made = workload.learner.model._function.module
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.requires_grad:
                value.copy_(state.params[f"module.{name}"])
    episodes = [workload.sample(split="meta_train", step=1, index=i) for i in range(3)]
    script = MetaLearner(
        made, "maml", inner_lr=0.1, inner_steps=2, batch_norm="transductive", outer_lr=1e-3
    )
    report = script.optimize(episodes)
    found = gradient(workload)
    assert report.loss == pytest.approx(sum(m.loss for m in found.metrics) / 3, rel=1e-6)
    norm = torch.sqrt(sum(((grad / 3) ** 2).sum() for grad in found.grads.values()))
    assert report.grad_norm == pytest.approx(float(norm), rel=1e-5)


def test_dropout_is_on_in_meta_training_alone_and_its_masks_are_the_episode_s() -> None:
    plain, dropping = build(width=6), build(width=6, rate=0.5)
    assert digest(gradient(plain).grads) != digest(gradient(dropping).grads)
    state = dropping.init_state()
    place: Any = {"split": "meta_test", "step": 0, "first_episode": 0, "n_episodes": 2}
    assert dropping.evaluate(state, **place) == plain.evaluate(state, **place)
    torch.manual_seed(5)
    assert digest(gradient(dropping).grads) == digest(gradient(build(width=6, rate=0.5)).grads)


@pytest.mark.parametrize("learner", ["protonet", "anil", "reptile", "cavia"])
def test_learners_of_each_kind_take_a_module(learner: str) -> None:
    options = {"name": learner} | ({"n_context": 3} if learner == "cavia" else {})
    try:
        found = gradient(build(learner=options, width=4, head="fc", batch_norm="transductive"))
    except ConfigError as error:
        assert learner == "cavia"
        assert "further input" in str(error)
    else:
        assert any(bool((grad != 0).any()) for grad in found.grads.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the option 'width'; add it"),
        ({"width": 4.5}, "width=4.5; expected a whole number"),
        ({"width": 4, "rate": "high"}, "rate='high'; expected a finite number"),
        ({"width": 4, "act": "gelu"}, "act='gelu'; expected one of 'relu', 'tanh'"),
        ({"width": 4, "sizes": 3}, "sizes=3; expected a list"),
        (
            {"width": 4, "depth": 3},
            "has no option 'depth'; its options are: act, anything, batch_norm, head, "
            "num_classes, rate, sizes, width",
        ),
        ({"width": -1}, "Net(width=-1, num_classes=3) cannot be made (AssertionError: )"),
        ({"width": 4, "num_classes": 7}, "Net has outputs of shape (7,) for one example"),
        ({"width": 4, "head": "last"}, "head='last' but the module's submodules are"),
        ({"width": 4, "batch_norm": "none"}, "batch_norm='none' but the module has batch norm"),
    ],
)
def test_options_are_checked_by_the_constructor_s_arguments(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_without_types_take_anything_and_lists_are_lists() -> None:
    assert gradient(build(width=3, anything={"a": [1]}, sizes=[3, 4])).metrics


def test_a_module_without_an_argument_for_its_outputs_must_have_as_many() -> None:
    with pytest.raises(ConfigError, match=r"expected \(3,\): give its constructor one of .*n_way"):
        build("Plain")
    assert gradient(build("Plain", n_hidden=3)).metrics
    assert gradient(build("Plain", learner={"name": "protonet"}, n_hidden=7)).metrics


def test_arguments_may_have_names_that_are_options_of_ours() -> None:
    assert gradient(build("Strange", head=4)).metrics


def test_a_kept_model_is_built_with_the_same_constants() -> None:
    workload = build(width=4)
    blueprint = Blueprint(workload.spec.learner, workload.spec.model, workload.learner.problem, {})
    kept = blueprint.build(("modules_of_a_user",))
    state = workload.init_state()
    episode = workload.sample(split="meta_test", step=0, index=0)
    torch.manual_seed(3)
    assert kept.evaluate(state, episode) == workload.learner.evaluate(state, episode)
    assert tuple(episode.support.inputs["image"].shape[1:]) == IMAGE


@pytest.mark.parametrize("batch_norm", ["running", "transductive"])
def test_a_kept_model_is_loaded_and_predicts_the_same(tmp_path: Path, batch_norm: str) -> None:
    workload = build(width=4, batch_norm=batch_norm)
    blueprint = Blueprint(workload.spec.learner, workload.spec.model, workload.learner.problem, {})
    origin = Provenance(run="abc", name="test", step=7, data="fake", packages={})
    state = workload.init_state()
    learned = LearnedModel.of(blueprint, state, origin, ("modules_of_a_user",))
    support = workload.sample(split="meta_test", step=0, index=0).support
    classes = {f"class {i}": 2 for i in range(SHAPE.n_way)}
    adapted = learned.adapt_to(support, classes)
    adapted.save(tmp_path / "kept")

    torch.manual_seed(3)
    kept = load_model(tmp_path / "kept", allowed_packages=("modules_of_a_user",))
    assert isinstance(kept, AdaptedModel)
    assert torch.equal(kept.logits(support.inputs), adapted.logits(support.inputs))


@pytest.mark.parametrize("name", ["vmap", "compiled"])
def test_a_module_that_draws_is_not_mapped(name: Any) -> None:
    strategy = Strategy(name, "float32")
    with pytest.raises(ConfigError, match=r"cannot be mapped over episodes .*random"):
        build(width=4, rate=0.5, batch_norm="transductive", execution=strategy).check_execution()
    build(width=4, batch_norm="transductive", execution=strategy).check_execution()


@pytest.mark.parametrize(
    ("layout", "execution"),
    [  # torch does not map sparse_csr
        *(("nan", name) for name in ("autograd", "constant_memory", "vmap")),
        *(("sparse_coo", name) for name in ("autograd", "constant_memory", "vmap")),
        *(("sparse_csr", name) for name in ("autograd", "constant_memory")),
    ],
)
def test_a_buffer_that_is_sparse_or_has_gaps_is_no_change(layout: str, execution: Any) -> None:
    workload = build("Graph", layout=layout, execution=Strategy(execution, "float32"))
    workload.check_execution()
    grads = gradient(workload).grads
    assert all(bool((g != 0).any()) for g in grads.values())
    place = {"split": "meta_test", "step": 1, "first_episode": 0, "n_episodes": 2}
    assert len(workload.evaluate(workload.init_state(), **place)) == 2


def test_a_job_compares_buffers_and_no_parameters() -> None:
    workload = build("Spectral")
    module = workload.learner.model._function.module

    found = workload.hidden.capture(generators=False)

    kept = {id(value.tensor) for group in found.values for value in group.values()}
    assert kept == {id(buffer) for buffer in module.buffers()}


@pytest.mark.parametrize("execution", ["autograd", "constant_memory"])
def test_a_buffer_that_a_forward_pass_changes_is_refused_and_is_as_before(execution: Any) -> None:
    workload = build("Spectral", execution=Strategy(execution, "float32"))
    module = workload.learner.model._function.module
    before = {name: value.clone() for name, value in module.named_buffers()}
    state = workload.init_state()

    with pytest.raises(ImpureError, match=r"changes buffer 'fc.*_u' .* MetaLearner") as caught:
        gradient(workload)
    module.broken = True
    with pytest.raises(LookupError):
        gradient(workload)
    module.broken = False

    assert "\n" not in str(caught.value)
    for name, value in module.named_buffers():
        assert torch.equal(value, before[name]), name
    # judged, it changes none
    workload.evaluate(state, split="meta_test", step=1, first_episode=0, n_episodes=2)
