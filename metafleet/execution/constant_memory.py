"""Second-order meta-gradients with the activations of one inner step at a time.

An episode is theta_0 = start(params), theta_{j+1} = step_j(params, theta_j) and
L = sum_j w_j L_Q(params, theta_{j+1}). Autograd keeps the activations of every step until it walks
back. Here the first sweep keeps theta_j alone; the second goes from the last step to the first with
lambda_j = dL / d theta_j,

    lambda_j = w_{j-1} d L_Q(theta_j) / d theta_j + (d step_j / d theta_j)^T lambda_{j+1},
    g       += w_{j-1} d L_Q(theta_j) / d params  + (d step_j / d params)^T lambda_{j+1},

and records step j anew for its two products. For theta - alpha grad L_S(theta) the first of them is
lambda - alpha H lambda, a Hessian-vector product, and none of it is an approximation. A step is
computed twice in all; memory grows with the number of steps by the fast parameters only.

Source: Kemaev et al. 2025, MixFlow-MG, arXiv:2505.00793, who save the same and take the product by
forward over reverse mode; reverse over reverse, as here, asks a step for nothing but what autograd
can differentiate twice.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metafleet.episode import Episode
from metafleet.learners.context import EpisodeContext
from metafleet.learners.differentiation import Function, by_autograd
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.learners.outcome import EpisodeOutcome, QueryGradient
from metafleet.notes import Notes
from metafleet.params import MetaState, Params, dot
from metafleet.registry import name_of

_WHOLE = ("meta_gradient", "objective", "query_outputs")
"""Methods that compute an episode as a whole: one that is not the base's own may do anything."""


def why_not_recomputed(learner: object) -> str:
    """Say why this learner's episodes cannot be taken apart into steps; "" when they can."""
    name = name_of(type(learner))
    if not isinstance(learner, InnerLoopLearner):
        return f"learner {name!r} does not adapt by inner steps"
    own = type(learner)
    if own.meta_gradient is not EpisodicLearner.meta_gradient:
        return f"learner {name!r} does not differentiate its inner steps"
    for method in _WHOLE[1:]:
        if getattr(own, method) is not getattr(InnerLoopLearner, method):
            return f"learner {name!r} has a {method} of its own, which cannot be taken apart"
    return ""


def recomputed(
    learner: InnerLoopLearner[Any], state: MetaState, episode: Episode
) -> EpisodeOutcome:
    """Compute one episode of meta-training as ``learner.compute`` would; nothing is checked."""
    return _TwoSweeps(learner, state, episode).outcome()


class _Slope(NamedTuple):
    """Derivatives of something for ``MetaState.params`` and for fast parameters."""

    params: Params
    fast: Params


class _TwoSweeps:
    """One episode, there and back."""

    def __init__(self, learner: InnerLoopLearner[Any], state: MetaState, episode: Episode) -> None:
        self._learner, self._episode = learner, episode
        self._params, self._support = state.params, episode.support
        self._context = learner.training_context(state, episode)
        self._again = learner.training_context(state, episode)  # what it notes is known already

    def outcome(self) -> EpisodeOutcome:
        """Go there, come back, and gather what an episode says."""
        visited = self._go()
        query = self._come_back(visited)
        context = self._context
        return EpisodeOutcome(query, context.support_losses(), context.norm.statistics())

    def _go(self) -> list[Params]:
        """Return theta_0, theta_1, ..., without a record of how they came about."""
        learner, context = self._learner, self._context
        context.differentiate = _without_record
        visited = [learner.begin(self._params, self._support, context)]
        for index in range(learner.n_steps(is_training=True)):
            fast = learner.advance(self._params, visited[-1], index, self._support, context)
            visited.append({name: value.detach() for name, value in fast.items()})
        context.differentiate = by_autograd
        return visited

    def _come_back(self, visited: list[Params]) -> QueryGradient:
        weights = self._learner.step_weights(self._context)
        n_steps = len(visited) - 1
        each = [None] * (n_steps - 1) + [torch.ones(())] if weights is None else weights.unbind()
        total: Params = {}
        slope: Params = {}
        loss = outputs = torch.empty(0)
        for index in reversed(range(n_steps)):
            fast, weight = visited.pop(), each[index]
            if weight is not None:
                query, term, predicted = self._query_slope(fast, index, weight)
                _accumulate(total, query.params)
                _accumulate(slope, query.fast)
                is_last = index == n_steps - 1
                loss = term if is_last else loss + term
                outputs = predicted if is_last else outputs
            product = self._step_product(visited[-1], index, slope)
            _accumulate(total, product.params)
            slope = product.fast
        start = self._product(
            lambda params, _, context: self._learner.begin(params, self._support, context),
            *({}, slope),
        )
        _accumulate(total, start.params)
        return QueryGradient(total, loss, outputs)

    def _query_slope(
        self, fast: Params, index: int, weight: Tensor
    ) -> tuple[_Slope, Tensor, Tensor]:
        """Differentiate the weighted query loss after step ``index``; statistics are noted."""
        learner, query, context = self._learner, self._episode.query, self._context
        context.enter_step(index)

        def weighted(params: Params, own: Params) -> tuple[Tensor, Tensor]:
            outputs = learner.adapted_outputs(params, own, self._support, query.inputs, context)
            loss = learner.loss(outputs, query.targets)
            return loss * weight.to(loss), outputs.detach()

        slope, loss, outputs = _differentiate(weighted, self._params, fast)
        return slope, loss.detach(), outputs

    def _step_product(self, fast: Params, index: int, slope: Params) -> _Slope:
        """Return slope times the derivative of step ``index`` at ``fast``."""
        return self._product(
            lambda params, own, context: self._learner.advance(
                params, own, index, self._support, context
            ),
            *(fast, slope),
        )

    def _product(
        self,
        step: Callable[[Params, Params, EpisodeContext], Params],
        fast: Params,
        slope: Params,
    ) -> _Slope:
        def along(params: Params, own: Params) -> tuple[Tensor, None]:
            moved = step(params, own, self._again)
            return dot(slope, moved), None

        found = _differentiate(along, self._params, fast)[0]
        self._again.notes.take()
        return found


def _without_record(
    function: Function, params: Mapping[str, Tensor], notes: Notes, *, create_graph: bool
) -> tuple[Params, Tensor, Any]:
    """Differentiate by autograd, and forget how: the first sweep never looks back."""
    return by_autograd(function, params, notes, create_graph=False)


def _differentiate(
    function: Callable[[Params, Params], tuple[Tensor, Any]], params: Params, fast: Params
) -> tuple[_Slope, Tensor, Any]:
    """Differentiate (params, fast) -> (scalar, aux) for both; what is no float is a constant."""
    with torch.enable_grad():
        own_params, own_fast = _leaves(params), _leaves(fast)
        loss, aux = function(own_params, own_fast)
    leaves = [*own_params.values(), *(v for v in own_fast.values() if v.requires_grad)]
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    else:  # fast parameters that begin as constants
        grads = tuple(torch.zeros_like(leaf) for leaf in leaves)
    names = [name for name, value in own_fast.items() if value.requires_grad]
    slope = _Slope(
        dict(zip(own_params, grads, strict=False)),
        dict(zip(names, grads[len(own_params) :], strict=True)),
    )
    return slope, loss, aux


def _leaves(values: Mapping[str, Tensor]) -> Params:
    return {
        name: value.detach().requires_grad_() if _is_varied(value) else value
        for name, value in values.items()
    }


def _is_varied(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _accumulate(total: Params, term: Params) -> None:
    """Add ``term`` to ``total``; not in place, for tensors may be shared."""
    for name, value in term.items():
        total[name] = total[name] + value if name in total else value
