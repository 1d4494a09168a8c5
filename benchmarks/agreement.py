"""Check that different implementations of a meta-gradient agree, before they are timed."""

import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.meta_problems import MetaProblem

Gradient = Callable[[MetaProblem], Mapping[str, Tensor]]
TOLERANCE = 1e-5


def checked(problem: MetaProblem, rows: Mapping[str, Gradient]) -> Mapping[str, Tensor]:
    """Return the gradient in float64, after checking that every row computes the same one.

    Raises:
        SystemExit: a row differs.
    """
    problem = problem.to(dtype=torch.float64, device=str(next(problem.net.parameters()).device))
    found = {name: row(problem) for name, row in rows.items()}
    first, *others = found
    errors = {name: distance(found[name], found[first]) for name in others}
    for name, error in errors.items():
        if not error <= TOLERANCE:
            sys.exit(f"{name} differs from {first} by {error:.1e}; expected {TOLERANCE} at most")
    print("\nfloat64:", ", ".join(f"{n} - {first} {error:.0e}" for n, error in errors.items()))
    return found[first]


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return |found - expected| / |expected| over all parameters."""
    assert found.keys() == expected.keys()
    gap = torch.stack([(found[n].double() - expected[n].double()).norm() for n in expected])
    return float(gap.norm() / torch.stack([g.double().norm() for g in expected.values()]).norm())
