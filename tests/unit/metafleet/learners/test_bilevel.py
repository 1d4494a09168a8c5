"""Learners of two levels, each against its equations written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, hessian

from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.errors import ConfigError
from metafleet.params import Params
from tests.unit.metafleet.few_shot import (
    TINY_CONV4,
    TINY_MLP,
    classification_episode,
    make_learner,
    random_state,
    regression_episode,
)
from tests.unit.metafleet.finite_differences import assert_matches_finite_differences

STEPS = {"inner_steps": 2, "inner_lr": 0.3}
CAVIA = {"name": "cavia", "n_context": 3, **STEPS}
CAVIA_FILM = CAVIA | {"conditioning": "film"}
MMAML = {"name": "mmaml", "units": 4, "layers": 2, **STEPS}
PROTOMAML = {"name": "protomaml", "inner_steps": 2, "inner_lr": 0.05}
IMAML = {
    "name": "imaml",
    "inner_steps": 120,
    "inner_lr": 0.12,
    "proximity": 4.0,
    "cg_steps": 40,
}
VECTORS = {"x": (3,)}


@pytest.fixture
def values() -> Episode:
    return regression_episode(target_dim=1)


@pytest.fixture
def classes() -> Episode:
    return classification_episode(modalities=VECTORS)


def layers(p: Params, x: Tensor, modulate=lambda layer, h: h) -> Tensor:
    """Do as ``TINY_MLP``, which may have a head, by hand."""
    n = sum(name.endswith(".weight") and name.startswith("layer") for name in p)
    for i in range(n):
        x = x @ p[f"layer{i}.weight"].T + p[f"layer{i}.bias"]
        if i < n - 1:
            x = modulate(f"layer{i}", x).clamp(min=0)
    return x


@pytest.mark.parametrize("options", [CAVIA, CAVIA_FILM, MMAML], ids=["input", "film", "mmaml"])
def test_gradients_of_regression_match_finite_differences(options, values: Episode) -> None:
    learner = make_learner(values, model=TINY_MLP, learner=options)
    assert_matches_finite_differences(learner, values)


@pytest.mark.parametrize("batch_norm", ["transductive", "support", "running"])
@pytest.mark.parametrize(
    "options", [CAVIA_FILM, MMAML, PROTOMAML], ids=["film", "mmaml", "protomaml"]
)
def test_gradients_of_classification_match_finite_differences(options, batch_norm: str) -> None:
    episode = classification_episode()
    model = TINY_CONV4 | {"batch_norm": batch_norm}
    assert_matches_finite_differences(make_learner(episode, model=model, learner=options), episode)


def test_cavia_moves_context_parameters_alone(values: Episode) -> None:
    learner = make_learner(values, model=TINY_MLP, learner=CAVIA)
    state = random_state(learner)
    p, support, query = state.params, values.support, values.query

    def outputs(phi: Tensor, x: Tensor, theta: Params) -> Tensor:
        # modalities are joined in order of name: "context" before "x"
        return layers(theta, torch.cat([phi.expand(len(x), -1), x], dim=1))

    def query_loss(theta: Params) -> Tensor:
        def support_loss(phi: Tensor) -> Tensor:
            return F.mse_loss(outputs(phi, support.inputs["x"], theta), support.targets)

        phi = torch.zeros(3, dtype=torch.float64)
        for _ in range(2):
            phi = phi - 0.3 * grad(support_loss)(phi)
        return F.mse_loss(outputs(phi, query.inputs["x"], theta), query.targets)

    found = learner.episode_gradient(state, values)

    torch.testing.assert_close(found.grads, grad(query_loss)(p))


def film_by_hand(p: Params, name: str, z: Tensor):
    def modulate(layer: str, h: Tensor) -> Tensor:
        return h * (1 + p[f"{name}.{layer}.scale"] @ z) + p[f"{name}.{layer}.shift"] @ z

    return modulate


def test_cavia_modulates_layers(classes: Episode) -> None:
    learner = make_learner(classes, model=TINY_MLP, learner=CAVIA_FILM)
    state = random_state(learner)
    p, support = state.params, classes.support
    theta = {n: v for n, v in p.items() if n.startswith("layer")}

    def outputs(phi: Tensor, x: Tensor) -> Tensor:
        return layers(theta, x, film_by_hand(p, "film", phi))

    phi = torch.zeros(3, dtype=torch.float64)
    for _ in range(2):
        loss = grad(lambda own: F.cross_entropy(outputs(own, support.inputs["x"]), support.targets))
        phi = phi - 0.3 * loss(phi)

    found = learner.predict(state, support, classes.query.inputs, 3)

    torch.testing.assert_close(found, outputs(phi, classes.query.inputs["x"]))
    assert not torch.allclose(found, layers(theta, classes.query.inputs["x"]))


def task_by_hand(p: Params, support: ExampleSet, y: Tensor) -> Tensor:
    """Embed a task with torch's own bidirectional LSTM."""
    theirs = torch.nn.LSTM(3 + y.shape[1], 4, num_layers=2, bidirectional=True).double()
    weights = {}
    for layer in range(2):
        for way, suffix in (("forward", ""), ("backward", "_reverse")):
            name = f"task.lstm.{way}{layer}"
            bias = p[f"{name}.bias"].clone()
            bias[4:8] += 1.0
            weights[f"weight_ih_l{layer}{suffix}"] = p[f"{name}.input"].T
            weights[f"weight_hh_l{layer}{suffix}"] = p[f"{name}.hidden"].T
            weights[f"bias_ih_l{layer}{suffix}"] = bias
            weights[f"bias_hh_l{layer}{suffix}"] = torch.zeros_like(bias)
    pairs = torch.cat([support.inputs["x"], y], dim=1)[:, None]
    _, (hidden, _) = torch.func.functional_call(theirs, weights, (pairs,))
    return hidden[-2:, 0].flatten()


@pytest.mark.parametrize("make", [regression_episode, classification_episode])
def test_mmaml_adapts_a_network_that_the_task_modulates(make) -> None:
    episode = make(modalities=VECTORS) if make is classification_episode else make(target_dim=1)
    learner = make_learner(episode, model=TINY_MLP, learner=MMAML)
    state = random_state(learner)
    p, support = state.params, episode.support
    is_regression = episode.is_regression
    y = support.targets if is_regression else F.one_hot(support.targets, 3).double()
    loss = F.mse_loss if is_regression else F.cross_entropy
    modulate = film_by_hand(p, "task.film", task_by_hand(p, support, y))
    theta = {n: value for n, value in p.items() if n.startswith("layer")}

    def support_loss(own: Params) -> Tensor:
        return loss(layers(own, support.inputs["x"], modulate), support.targets)

    for _ in range(2):
        slopes = grad(support_loss)(theta)
        theta = {n: value - 0.3 * slopes[n] for n, value in theta.items()}

    found = learner.predict(state, support, episode.query.inputs, episode.n_way)

    torch.testing.assert_close(found, layers(theta, episode.query.inputs["x"], modulate))


def test_protomaml_begins_as_a_prototypical_network(classes: Episode) -> None:
    options = PROTOMAML | {"inner_lr": 1e-12}
    maml, protonet = (
        make_learner(classes, model=TINY_MLP, learner=own)
        for own in (options, {"name": "protonet"})
    )
    state = random_state(maml)

    shares = [
        learner.predict(state, classes.support, classes.query.inputs, 3).softmax(dim=1)
        for learner in (maml, protonet)
    ]

    torch.testing.assert_close(shares[0], shares[1], rtol=1e-6, atol=1e-8)


def test_protomaml_adapts_head_and_body_and_differentiates_the_prototypes(
    classes: Episode,
) -> None:
    learner = make_learner(classes, model=TINY_MLP, learner=PROTOMAML)
    state, support, query = random_state(learner), classes.support, classes.query

    def logits(own: Params, x: Tensor) -> Tensor:
        return layers(own, x) @ own["w"].T + own["b"]

    def support_loss(own: Params) -> Tensor:
        return F.cross_entropy(logits(own, support.inputs["x"]), support.targets)

    def query_loss(theta: Params) -> Tensor:
        embedded = layers(theta, support.inputs["x"])
        means = torch.stack([embedded[support.targets == k].mean(dim=0) for k in range(3)])
        own = theta | {"w": 2 * means, "b": -(means * means).sum(dim=1)}
        for _ in range(2):
            slopes = grad(support_loss)(own)
            own = {n: value - 0.05 * slopes[n] for n, value in own.items()}
        return F.cross_entropy(logits(own, query.inputs["x"]), query.targets)

    found = learner.episode_gradient(state, classes)

    torch.testing.assert_close(found.grads, grad(query_loss)(state.params))


def test_protomaml_takes_episodes_with_more_classes(classes: Episode) -> None:
    learner = make_learner(classes, model=TINY_MLP, learner=PROTOMAML)
    large = classification_episode(EpisodeShape(5, 1, 2), modalities=VECTORS)

    outputs = learner.predict(random_state(learner), large.support, large.query.inputs, 5)

    assert outputs.shape == (10, 5)


def flat(params: Params) -> Tensor:
    return torch.cat([params[name].flatten() for name in sorted(params)])


def unflat(vector: Tensor, like: Params) -> Params:
    found, at = {}, 0
    for name in sorted(like):
        found[name] = vector[at : at + like[name].numel()].view_as(like[name])
        at += like[name].numel()
    return found


def test_imaml_solves_with_the_hessian_at_the_solution(values: Episode) -> None:
    learner = make_learner(values, model=TINY_MLP, learner=IMAML)
    state, support, query = random_state(learner), values.support, values.query
    theta = flat(state.params)

    def loss(vector: Tensor, part: ExampleSet) -> Tensor:
        return F.mse_loss(layers(unflat(vector, state.params), part.inputs["x"]), part.targets)

    phi = theta
    for _ in range(120):
        phi = phi - 0.12 * (grad(loss)(phi, support) + 4.0 * (phi - theta))
    proximal = grad(loss)(phi, support) + 4.0 * (phi - theta)
    assert float(proximal.abs().max()) < 1e-6, "the inner problem is not solved"
    curvature = hessian(loss)(phi, support) / 4.0 + torch.eye(len(phi), dtype=torch.float64)
    expected = torch.linalg.solve(curvature, grad(loss)(phi, query))

    found = learner.episode_gradient(state, values)

    torch.testing.assert_close(flat(found.grads), expected, rtol=1e-6, atol=1e-8)


def test_imaml_differentiates_the_solution(values: Episode) -> None:
    # the implicit gradient is that of a solved problem, so finite differences see it too
    learner = make_learner(values, model=TINY_MLP, learner=IMAML)
    assert_matches_finite_differences(learner, values)


def test_few_cg_steps_give_another_gradient(values: Episode) -> None:
    few, many = (
        make_learner(values, model=TINY_MLP, learner=IMAML | {"cg_steps": n}) for n in (1, 40)
    )
    state = random_state(few)

    found = [flat(learner.episode_gradient(state, values).grads) for learner in (few, many)]

    assert not torch.allclose(found[0], found[1], rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CAVIA | {"n_context": 0}, "n_context=0; expected 1 or more"),
        (CAVIA | {"inner_steps": 0}, "inner_steps=0; expected 1 or more"),
        (MMAML | {"units": 0}, "units=0; expected 1 or more"),
        (IMAML | {"proximity": 0.0}, "proximity=0.0; expected more than 0"),
        (IMAML | {"first_order": True}, "first_order=True; expected false, or learner 'maml'"),
        (PROTOMAML | {"inner_lr": 0.0}, "inner_lr=0.0; expected more than 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message: str, values: Episode) -> None:
    episode = classification_episode(modalities=VECTORS)
    with pytest.raises(ConfigError, match=message):
        make_learner(episode, model=TINY_MLP, learner=options)
