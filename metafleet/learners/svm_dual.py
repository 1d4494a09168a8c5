"""Solve and differentiate the dual of a multi-class support vector machine.

    min over a [n, k] of  1/2 sum_c a_c^T K a_c - sum_i a_{i, y_i}
    with  a_ic <= C [y_i = c]  and  sum_c a_ic = 0        (Crammer and Singer 2001)

With u = C Y - a, the first constraint is u >= 0, and the second is sum_c u_ic = C. Each example
therefore distributes C over the classes. A primal-dual interior-point method follows the central
path of

    g(u) - s + nu 1^T = 0,   g(u) = K u - C K Y + Y
    sum_c u_ic = C,   u s = mu,   u >= 0, s >= 0

for a fixed number of steps. The derivative of the solution comes from the implicit function
theorem. It is exactly the derivative of one more Newton step whose Jacobian is treated as a
constant.
"""

import torch
from torch import Tensor

N_STEPS = 25
"""Steps to bring the complementarity from 1 below 1e-10; each step reduces it to about a third."""
_CENTRING = 0.1
_TO_THE_WALL = 0.99


def svm_dual(gram: Tensor, one_hot: Tensor, bound: float) -> Tensor:
    """Return the dual variables a [n, k] in float64, differentiable with respect to ``gram``.

    Args:
        gram: kernel matrix K [n, n], positive semi-definite.
        one_hot: classes Y [n, k].
        bound: C > 0.

    Source: Lee et al. 2019, arXiv:1904.03758, eq. 6 to 8 and section 3.3 (implicit function
    theorem). The method is algorithm 16.4 of Nocedal and Wright 2006, without its predictor.
    """
    kernel, classes = gram.double(), one_hot.double()
    fixed = kernel.detach()
    u, s, nu = _solve(fixed, classes, bound)
    residual = (_slope(kernel, classes, bound, u) - s + nu[:, None]).flatten()
    # the other equations hold at the solution and do not depend on the kernel
    du, _, _ = _newton(fixed, u, s, residual, torch.zeros_like(nu), torch.zeros_like(u))
    return bound * classes - (u + du)


def _solve(kernel: Tensor, classes: Tensor, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    n, k = classes.shape
    u = torch.full_like(classes, bound / k)
    s, nu = torch.ones_like(u), kernel.new_zeros(n)
    for _ in range(N_STEPS):
        mu = _CENTRING * (u * s).mean()
        stationarity = (_slope(kernel, classes, bound, u) - s + nu[:, None]).flatten()
        spread = u.sum(dim=1) - bound
        du, ds, dnu = _newton(kernel, u, s, stationarity, spread, u * s - mu)
        size = torch.minimum(_room(u, du), _room(s, ds))
        u, s, nu = u + size * du, s + size * ds, nu + size * dnu
    return u, s, nu


def _slope(kernel: Tensor, classes: Tensor, bound: float, u: Tensor) -> Tensor:
    return kernel @ (u - bound * classes) + classes


def _newton(
    kernel: Tensor,
    u: Tensor,
    s: Tensor,
    stationarity: Tensor,
    spread: Tensor,
    complementarity: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve for the step that makes the three residuals vanish to first order."""
    n, k = u.shape
    # s is eliminated: ds = -(complementarity + s du) / u
    eye_k = torch.eye(k, dtype=u.dtype, device=u.device)
    hessian = torch.kron(kernel, eye_k) + torch.diag((s / u).flatten())
    sums = torch.kron(torch.eye(n, dtype=u.dtype, device=u.device), u.new_ones(1, k))
    corner = u.new_zeros(n, n)
    system = torch.cat([torch.cat([hessian, sums.T], 1), torch.cat([sums, corner], 1)])
    given = torch.cat([-(stationarity + (complementarity / u).flatten()), -spread])
    step = torch.linalg.solve(system, given)
    du, dnu = step[: n * k].reshape(n, k), step[n * k :]
    return du, -(complementarity + s * du) / u, dnu


def _room(value: Tensor, step: Tensor) -> Tensor:
    """Return how much of ``step`` keeps ``value`` positive, at most 1."""
    ratios = torch.where(step < 0, -value / step, torch.full_like(value, 2.0))
    return (_TO_THE_WALL * ratios.min()).clamp(max=1.0)
