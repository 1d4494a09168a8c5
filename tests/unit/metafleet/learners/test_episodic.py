import re
from pathlib import Path

import pytest
import torch

from metafleet.episode import Episode, ExampleSet
from metafleet.errors import ConfigError
from metafleet.learners.base import EpisodeOutcome
from metafleet.learners.context import EpisodeContext, by_functions
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.maml import Maml, MamlOptions
from metafleet.models.episode_norm import EpisodeNorm
from metafleet.models.notes import Notes
from metafleet.models.registry import model_factory
from metafleet.params import MetaState, Params, digest
from metafleet.registry import Registry
from metafleet.workload import Workload, WorkloadSpec
from tests.paths import REPOSITORY
from tests.unit.metafleet.few_shot import (
    SHAPE,
    TINY_CONV4,
    TINY_MLP,
    FakeSource,
    classification_episode,
    make_learner,
    problem_of,
    random_state,
    regression_episode,
)
from tests.unit.metafleet.learners.test_meta_gradients import assert_matches_finite_differences

MAML = {"name": "maml", "inner_lr": 0.3, "inner_steps": 2}
PROTONET = {"name": "protonet"}
MODES = ("transductive", "support", "running", "per_step", "frozen", "none")
PAGE = REPOSITORY / "docs" / "how-to" / "learners.md"


def build(
    learner: type[EpisodicLearner], options: object, episode: Episode, **model: object
) -> EpisodicLearner:
    problem = problem_of(episode)
    built = learner.build(options, problem, model_factory(TINY_CONV4 | model, problem))
    assert isinstance(built, EpisodicLearner)
    return built


def by_hand_of_functions(
    learner: EpisodicLearner, state: MetaState, episode: Episode
) -> EpisodeOutcome:
    """The same episode as ``torch.func`` differentiates it."""
    context = learner.training_context(state, episode)
    context.differentiate, context.is_traced = by_functions, True
    context.norm = EpisodeNorm(
        learner.batch_norm, state.buffers, is_training=True, notes=context.notes, is_traced=True
    )
    return learner.compute(state.params, episode, context)


CASES = [
    (learner, mode)
    for learner in (MAML, MAML | {"first_order": True}, PROTONET)
    for mode in MODES
    if (learner, mode) != (PROTONET, "per_step")
]


@pytest.mark.parametrize(("learner", "batch_norm"), CASES)
def test_functional_differentiation_equals_autograd(
    learner: dict[str, object], batch_norm: str
) -> None:
    episode = classification_episode(seed=31)
    built = make_learner(episode, model=TINY_CONV4 | {"batch_norm": batch_norm}, learner=learner)
    assert isinstance(built, EpisodicLearner)
    state = random_state(built)

    found = by_hand_of_functions(built, state, episode)

    expected = built.episode_gradient(state, episode)
    assert float(found.query.loss) == pytest.approx(expected.metrics[0].loss, rel=1e-12)
    for name, value in expected.grads.items():
        torch.testing.assert_close(found.query.grads[name], value, rtol=1e-9, atol=1e-11)
    assert found.statistics.keys() == expected.buffers.keys() == state.buffers.keys()
    for name, value in expected.buffers.items():
        torch.testing.assert_close(found.statistics[name], value, rtol=1e-9, atol=1e-11)
    assert len(found.support_losses) == (2 if learner is not PROTONET else 0)


@pytest.mark.parametrize("batch_norm", ["per_step", "frozen"])
def test_gradients_match_finite_differences_in_every_mode(batch_norm: str) -> None:
    episode = classification_episode()
    model = TINY_CONV4 | {"batch_norm": batch_norm}
    assert_matches_finite_differences(make_learner(episode, model=model, learner=MAML), episode)


def test_per_step_batch_norm_keeps_averages_of_each_inner_step() -> None:
    episode = classification_episode(seed=32)
    per_step, running = (
        make_learner(episode, model=TINY_CONV4 | {"batch_norm": mode}, learner=MAML)
        for mode in ("per_step", "running")
    )
    state = random_state(per_step)
    assert state.buffers["block0.mean"].shape == (2, 3)

    seen = per_step.episode_gradient(state, episode)

    one = MetaState(state.params, {n: b[0] for n, b in state.buffers.items()})
    together = running.episode_gradient(one, episode)
    assert digest(seen.grads) == digest(together.grads)  # training looks at no average
    # step 0 saw the support set once; step 1 saw it again, and then the query set
    mean = (seen.buffers["block1.mean"][0] + 2 * seen.buffers["block1.mean"][1]) / 3
    torch.testing.assert_close(mean, together.buffers["block1.mean"])
    assert not torch.allclose(*seen.buffers["block1.mean"])
    swapped = MetaState(state.params, {n: b.flip(0) for n, b in state.buffers.items()})
    assert per_step.evaluate(swapped, episode) != per_step.evaluate(state, episode)


def test_per_step_batch_norm_is_refused_without_inner_steps() -> None:
    with pytest.raises(ConfigError, match="batch_norm='per_step' but learner 'protonet' has no"):
        make_learner(
            classification_episode(),
            model=TINY_CONV4 | {"batch_norm": "per_step"},
            learner=PROTONET,
        )


def test_frozen_batch_norm_trains_what_it_judges_and_still_learns_averages() -> None:
    episode = classification_episode(seed=33)
    learner = make_learner(
        episode, model=TINY_CONV4 | {"batch_norm": "frozen"}, learner=MAML | {"inner_steps": 1}
    )
    state = random_state(learner)
    trained = learner.episode_gradient(state, episode)
    assert learner.evaluate(state, episode).loss == pytest.approx(trained.metrics[0].loss)
    assert trained.buffers.keys() == state.buffers.keys()
    assert all(not torch.allclose(trained.buffers[n], b) for n, b in state.buffers.items())


class Weighted(Maml):
    """The query loss after each inner step counts, as in MAML++."""

    def variant(self, step: int) -> str:
        return "late" if step >= 5 else "early"

    def schedule(self, step: int) -> Params:
        return {"weights": torch.tensor([0.25 + step, 0.75])}

    def step_weights(self, context: EpisodeContext) -> torch.Tensor | None:
        return context.schedule["weights"] if context.variant == "early" else None


def test_query_losses_after_each_step_are_weighted_as_the_outer_step_says() -> None:
    episode = classification_episode(seed=34)
    options = MamlOptions(inner_lr=0.3, inner_steps=2)
    weighted = build(Weighted, options, episode)
    state = random_state(weighted)
    one, two = (
        build(Maml, MamlOptions(inner_lr=0.3, inner_steps=n), episode).episode_gradient(
            state, episode
        )
        for n in (1, 2)
    )

    def at(step: int) -> Params:
        at_step = Episode(episode.support, episode.query, 3, step=step)
        return weighted.episode_gradient(state, at_step).grads

    for name in state.params:
        for step in (0, 2):
            expected = (0.25 + step) * one.grads[name] + 0.75 * two.grads[name]
            torch.testing.assert_close(at(step)[name], expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(at(5)[name], two.grads[name], rtol=1e-9, atol=1e-12)


class Shuffled(Maml):
    """Looks at the support set in an order that is drawn."""

    def draw(self, rng, n_support: int, n_query: int) -> Params:
        return {"order": torch.tensor(rng.sample(n_support, n_support))}

    def support_loss(self, params, fast, support, context):
        order = context.drawn["order"]
        weights = torch.linspace(0.1, 2.0, len(order), dtype=torch.float64)
        shuffled = ExampleSet({n: v[order] for n, v in support.inputs.items()}, support.targets)
        outputs = self.outputs(params, fast, shuffled.inputs, context)
        return (weights[:, None] * outputs.square()).mean()


def test_what_is_drawn_depends_on_the_episode_alone() -> None:
    episode = classification_episode(seed=35)
    learner = build(Shuffled, MamlOptions(inner_lr=0.3, inner_steps=1), episode)
    state = random_state(learner)
    drawn = [
        digest(
            learner.episode_gradient(
                state, Episode(episode.support, episode.query, 3, seed=seed)
            ).grads
        )
        for seed in (1, 2, 1)
    ]
    assert drawn[0] == drawn[2] != drawn[1]
    inputs = episode.query.inputs
    assert torch.equal(
        learner.predict(state, episode.support, inputs, 3),
        learner.predict(state, episode.support, inputs, 3),
    )


def test_a_workload_gives_each_episode_its_step_and_a_seed_of_its_own() -> None:
    spec = WorkloadSpec(1, {"name": "fake"}, "", {"meta_train": SHAPE}, TINY_CONV4, MAML)
    workload = Workload.bind(spec, FakeSource())
    episodes = [
        workload.sample(split="meta_train", step=step, index=index)
        for step, index in ((3, 0), (3, 1), (4, 0), (3, 0))
    ]
    assert [e.step for e in episodes] == [3, 3, 4, 3]
    assert len({e.seed for e in episodes}) == 3


def test_a_parameter_the_loss_does_not_depend_on_has_a_gradient_of_zero() -> None:
    episode = regression_episode()
    learner = make_learner(episode, model=TINY_MLP, learner=MAML)
    state = random_state(learner)
    idle = MetaState(state.params | {"idle": torch.ones(2, dtype=torch.float64)}, {})
    assert not learner.episode_gradient(idle, episode).grads["idle"].any()


@pytest.mark.parametrize("differentiate", ["autograd", "functions"])
def test_gradients_nest_into_hessian_vector_products(differentiate: str) -> None:
    notes = Notes()
    context = EpisodeContext(0, True, EpisodeNorm("none", {}, is_training=True), notes)
    if differentiate == "functions":
        context.differentiate = by_functions
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    x, v = torch.randn(2, 4, generator=generator, dtype=torch.float64)

    def loss(params: Params) -> torch.Tensor:
        return (matrix @ params["x"]).square().sum() ** 2

    def slope(params: Params) -> torch.Tensor:
        grads, value = context.grad(loss, params, create_graph=True)
        context.note_support_loss(value)
        return (grads["x"] * v).sum()

    product, _ = context.grad(slope, {"x": x}, create_graph=False)

    expected = torch.autograd.functional.hessian(lambda t: loss({"x": t}), x) @ v
    torch.testing.assert_close(product["x"], expected)
    assert [float(n) for n in context.support_losses()] == [pytest.approx(float(loss({"x": x})))]
    assert not product["x"].requires_grad


@pytest.mark.parametrize("model", [TINY_CONV4, TINY_MLP], ids=lambda o: o["name"])
def test_models_name_their_head_and_stop_before_it(model: dict[str, object]) -> None:
    episode = classification_episode(seed=36)
    make_model = model_factory(model, problem_of(episode))
    norm = EpisodeNorm("transductive", {}, is_training=True).query
    whole, embedding = make_model(3), make_model(None)
    params, inputs = whole.init_params(1), episode.query.inputs
    inputs = {n: v.float() for n, v in inputs.items()}

    features = whole.features(params, inputs, norm)

    assert whole.head and whole.head < params.keys()
    assert not embedding.head
    assert embedding.init_params(1).keys() == params.keys() - whole.head
    assert torch.equal(whole.apply_head(params, features), whole.forward(params, inputs, norm))
    assert torch.equal(
        embedding.features(params, inputs, norm), embedding.forward(params, inputs, norm)
    )
    seen: dict[str, int] = {}

    def modulate(layer: str, x: torch.Tensor) -> torch.Tensor:
        seen[layer] = x.shape[1]
        return x * 0.0 + 1.0

    assert whole.features(params, inputs, norm, modulate).eq(1.0).all()
    assert seen == whole.layers


def test_a_learner_may_give_its_model_another_input() -> None:
    episode = regression_episode()
    make_model = model_factory(TINY_MLP, problem_of(episode))
    plain, wider = make_model(2), make_model(2, extra_inputs={"context": (4,)})
    assert wider.init_params(1)["layer0.weight"].shape[1] == (
        plain.init_params(1)["layer0.weight"].shape[1] + 4
    )


def test_a_registry_is_a_mapping_that_checks_options() -> None:
    registry = Registry("learner", [Maml])
    assert list(registry) == ["maml"] and len(registry) == 1 and registry["maml"] is Maml
    found, options = registry.resolve({"name": "maml", "inner_steps": 3})
    assert found is Maml and options == MamlOptions(inner_steps=3)


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "one_rate.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    learner = {"name": "my_package.one_rate:OneRate", "inner_lr": 0.05, "inner_steps": 2}
    spec = WorkloadSpec(1, {"name": "fake"}, "", {"meta_train": SHAPE}, TINY_CONV4, learner)
    workload = Workload.bind(spec, FakeSource(), allowed_packages=("my_package",))
    assert isinstance(workload.learner, InnerLoopLearner)

    assert_matches_finite_differences(workload.learner, classification_episode())
    judged = workload.evaluate(
        workload.init_state(), split="meta_train", step=0, first_episode=0, n_episodes=2
    )
    assert all(m.accuracy is not None for m in judged)
