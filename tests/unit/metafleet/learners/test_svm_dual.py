import pytest
import torch

from metafleet.learners.svm_dual import svm_dual

TARGETS = torch.tensor([0, 0, 1, 1, 2, 2, 3])
WANTED = torch.nn.functional.one_hot(TARGETS).double()


def features(seed: int, d: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(TARGETS), d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("bound", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_solution_fulfils_the_optimality_conditions(seed: int, bound: float) -> None:
    x = features(seed)
    dual = svm_dual(x @ x.T, WANTED, bound)

    assert float(dual.sum(dim=1).abs().max()) < 1e-9
    slack = bound * WANTED - dual
    assert float(slack.min()) > -1e-9
    # a row's multipliers are what its scores fall short of the largest one
    score = x @ x.T @ dual - WANTED
    multiplier = score.max(dim=1, keepdim=True).values - score
    assert float((slack * multiplier).max()) < 1e-7


def test_the_solution_is_no_worse_than_feasible_neighbours() -> None:
    x = features(1)
    gram, bound = x @ x.T, 0.3
    dual = svm_dual(gram, WANTED, bound)

    def objective(a: torch.Tensor) -> float:
        return float(0.5 * (a * (gram @ a)).sum() - (a * WANTED).sum())

    generator = torch.Generator().manual_seed(2)
    for _ in range(200):
        spread = torch.rand(WANTED.shape, generator=generator, dtype=torch.float64)
        other = bound * (WANTED - spread / spread.sum(dim=1, keepdim=True))
        for share in (1e-4, 1e-2, 1.0):
            assert objective(dual + share * (other - dual)) >= objective(dual) - 1e-9


@pytest.mark.parametrize("bound", [0.1, 1.0])
def test_its_derivative_is_the_solutions(bound: float) -> None:
    x = features(5).requires_grad_()
    weights = features(6, d=4)

    def value(given: torch.Tensor) -> torch.Tensor:
        return (weights * svm_dual(given @ given.T, WANTED, bound)).sum()

    (slope,) = torch.autograd.grad(value(x), x)
    direction, step = features(7), 1e-5
    with torch.no_grad():
        expected = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float(slope.abs().max()) > 1e-3
    assert float((slope * direction).sum()) == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def test_it_can_be_mapped_over_episodes() -> None:
    grams = torch.stack([features(seed) @ features(seed).T for seed in range(3)])

    mapped = torch.func.vmap(lambda gram: svm_dual(gram, WANTED, 0.1))(grams)

    torch.testing.assert_close(mapped, torch.stack([svm_dual(g, WANTED, 0.1) for g in grams]))
