"""Second-order meta-gradients that keep the activations of only one inner step in memory.

Let params be the learned parameters and theta_j the fast parameters after j inner steps. An episode
computes theta_0 = start(params), theta_{j+1} = step_j(params, theta_j) and
L = sum_j w_j L_Q(params, theta_{j+1}), where L_Q is the query loss and w_j is the weight of step j.
Autograd keeps the activations of every step until its backward pass. In this module, the forward
sweep keeps only theta_j for each j. The backward sweep goes from the last step to the first. It
computes lambda_j = dL / d theta_j and the gradient g = dL / d params:

    lambda_j = w_{j-1} d L_Q(theta_j) / d theta_j + (d step_j / d theta_j)^T lambda_{j+1},
    g       += w_{j-1} d L_Q(theta_j) / d params  + (d step_j / d params)^T lambda_{j+1}.

For the two products with lambda_{j+1}, the backward sweep recomputes step j with an autograd graph.
For example, let the step be theta - alpha grad L_S(theta), where L_S is the support loss with
Hessian H. The first product is then lambda - alpha H lambda, which contains a Hessian-vector
product. The result is exact. Each step is computed twice. An additional inner step needs additional
memory only for its fast parameters.

Source: Kemaev et al. 2025, MixFlow-MG, arXiv:2505.00793, who save the same memory but compute the
Hessian-vector product in forward-over-reverse mode. This module computes it in reverse-over-reverse
mode, which only requires that autograd can differentiate the steps twice.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metafleet.episode import Episode
from metafleet.execution.replay import Replay, Slopes, require_same
from metafleet.learners.base import EpisodeOutcome, QueryGradient
from metafleet.learners.context import EpisodeContext, Function, by_autograd
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.models.notes import Notes
from metafleet.options import name_of
from metafleet.params import MetaState, Params, dot
from metafleet.purity.hidden_state import HiddenState, Snapshot

AuxT = TypeVar("AuxT")
_WHOLE = ("meta_gradient", "objective", "query_outputs")
"""Methods that compute a whole episode; a learner that overrides one cannot be split into steps."""


def why_not_recomputed(learner: object) -> str:
    """Return why a learner's episodes cannot be split into steps; "" if they can."""
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
    learner: InnerLoopLearner[Any],
    state: MetaState,
    episode: Episode,
    hidden: HiddenState,
    *,
    tolerance: float = 0.0,
) -> EpisodeOutcome:
    """Compute one episode of meta-training as ``learner.compute`` does, without checks.

    Args:
        learner: the learner.
        state: the learned state.
        episode: the episode.
        hidden: hidden state of the learner, and of the random generators that the learner may use.
        tolerance: rounding differences to tolerate between the two computations of a step.

    Raises:
        ConfigError: the two computations of a step gave different values.
    """
    start = hidden.capture()
    try:
        found = _TwoSweeps(learner, state, episode, Replay(hidden, is_careful=False), tolerance)
        return found.outcome(lambda: has_moved(hidden, start))
    except _MovedError:
        hidden.restore(start)
    found = _TwoSweeps(learner, state, episode, Replay(hidden, is_careful=True), tolerance)
    return found.outcome(lambda: False)


def has_moved(hidden: HiddenState, start: Snapshot) -> bool:
    """Return whether a generator was used or hidden state changed since ``start``."""
    assert start.generators is not None
    return bool(hidden.generators.drew(start.generators)) or bool(hidden.changes(start))


class _MovedError(Exception):
    """An episode changed the hidden state although it was assumed not to."""


class _Slope(NamedTuple):
    """Derivatives with respect to ``MetaState.params``, fast parameters and hidden tensors."""

    params: Params
    fast: Params
    hidden: Slopes


class _TwoSweeps:
    """The forward and backward sweep over one episode."""

    def __init__(
        self,
        learner: InnerLoopLearner[Any],
        state: MetaState,
        episode: Episode,
        replay: Replay,
        tolerance: float,
    ) -> None:
        self._learner, self._episode = learner, episode
        self._replay, self._tolerance = replay, tolerance
        self._params, self._support = state.params, episode.support
        self._context = learner.training_context(state, episode)
        self._again = learner.training_context(state, episode)  # for recomputation; notes unused

    def outcome(self, has_moved: Callable[[], bool]) -> EpisodeOutcome:
        """Run both sweeps and return the outcome of the episode.

        Raises:
            _MovedError: ``has_moved`` returned True.
        """
        weights = self._learner.step_weights(self._context)
        visited = self._go(weights)
        if has_moved():
            raise _MovedError
        query = self._come_back(visited, weights)
        if weights is not None and has_moved():  # the first sweep skipped query passes
            raise _MovedError
        context = self._context
        return EpisodeOutcome(query, context.support_losses(), context.norm.statistics())

    def _go(self, weights: Tensor | None) -> list[Params]:
        """Return theta_0, theta_1, ..., without their graphs."""
        learner, context, replay = self._learner, self._context, self._replay
        if not replay.is_careful:
            context.differentiate = _without_record
        visited = [self._first(lambda params, _: learner.begin(params, self._support, context), {})]
        n_steps = learner.n_steps(is_training=True)
        for index in range(n_steps):

            def step(params: Params, fast: Params, index: int = index) -> Params:
                return learner.advance(params, fast, index, self._support, context)

            visited.append(self._first(step, visited[-1]))
            if weights is not None and replay.is_careful and index < n_steps - 1:
                self._pass_query(visited[-1], index)
        replay.remember()
        context.differentiate = by_autograd
        return visited

    def _first(self, step: Callable[[Params, Params], Params], fast: Params) -> Params:
        """Compute a step; with a graph if the hidden state may keep a part of it."""
        if not self._replay.is_careful:
            return _detached(step(self._params, fast))
        with torch.enable_grad():
            return self._replay.first(lambda: _detached(step(_leaves(self._params), _leaves(fast))))

    def _pass_query(self, fast: Params, index: int) -> None:
        """Run the query's forward pass after a step, only for its effect on the hidden state."""

        def passed(params: Params, own: Params) -> Params:
            self._again.enter_step(index)
            loss, _ = self._query_loss(params, own, self._again)
            return {"loss": loss}

        self._first(passed, fast)
        self._again.notes.take()

    def _come_back(self, visited: list[Params], weights: Tensor | None) -> QueryGradient:
        n_steps = len(visited) - 1
        each = [None] * (n_steps - 1) + [torch.ones(())] if weights is None else weights.unbind()
        total: Params = {}
        slope: Params = {}
        hidden: Slopes = {}
        end: Snapshot | None = None
        loss = outputs = torch.empty(0)
        for index in reversed(range(n_steps)):
            fast, weight = visited.pop(), each[index]
            if weight is not None:
                query, term, predicted = self._query_slope(fast, index, weight, hidden)
                _accumulate(total, query.params)
                _accumulate(slope, query.fast)
                hidden = query.hidden
                is_last = index == n_steps - 1
                end = self._replay.end() if is_last else end
                loss = term if is_last else loss + term
                outputs = predicted if is_last else outputs
            product = self._step_product(visited[-1], index, fast, _Slope({}, slope, hidden))
            _accumulate(total, product.params)
            slope, hidden = product.fast, product.hidden
        start = self._product(
            lambda params, _, context: self._learner.begin(params, self._support, context),
            {},
            visited[0],
            _Slope({}, slope, hidden),
        )
        _accumulate(total, start.params)
        self._replay.close(end)
        return QueryGradient(total, loss, outputs)

    def _query_slope(
        self, fast: Params, index: int, weight: Tensor, hidden: Slopes
    ) -> tuple[_Slope, Tensor, Tensor]:
        """Differentiate the weighted query loss after step ``index``, and record statistics."""
        context = self._context

        def weighted(params: Params, own: Params) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            context.enter_step(index)
            loss, outputs = self._query_loss(params, own, context)
            loss = loss * weight.to(loss)
            return self._replay.with_product(loss, hidden), (loss.detach(), outputs.detach())

        slope, (loss, outputs) = _differentiate(weighted, self._params, fast, self._replay.again())
        return slope, loss, outputs

    def _query_loss(
        self, params: Params, fast: Params, context: EpisodeContext
    ) -> tuple[Tensor, Tensor]:
        query = self._episode.query
        outputs = self._learner.adapted_outputs(params, fast, self._support, query.inputs, context)
        return self._learner.loss(outputs, query.targets), outputs

    def _step_product(self, fast: Params, index: int, moved: Params, slope: _Slope) -> _Slope:
        """Return ``slope`` times the derivative of step ``index`` from ``fast`` to ``moved``."""
        return self._product(
            lambda params, own, context: self._learner.advance(
                params, own, index, self._support, context
            ),
            fast,
            moved,
            slope,
        )

    def _product(
        self,
        step: Callable[[Params, Params, EpisodeContext], Params],
        fast: Params,
        moved: Params,
        slope: _Slope,
    ) -> _Slope:
        def along(params: Params, own: Params) -> tuple[Tensor, Params]:
            again = step(params, own, self._again)
            value = self._replay.with_product(dot(slope.fast, again), slope.hidden)
            return value, _detached(again)

        def once_more() -> Params:
            self._replay.repeat()
            with torch.enable_grad():
                return _detached(step(_leaves(self._params), _leaves(fast), self._again))

        found, again = _differentiate(along, self._params, fast, self._replay.again())
        require_same(moved, again, once_more, tolerance=self._tolerance)
        self._again.notes.take()
        return found


def _without_record(
    function: Function, params: Mapping[str, Tensor], notes: Notes, *, create_graph: bool
) -> tuple[Params, Tensor, Any]:
    """Differentiate by autograd without keeping a graph, which the first sweep does not need."""
    return by_autograd(function, params, notes, create_graph=False)


def _differentiate(
    function: Callable[[Params, Params], tuple[Tensor, AuxT]],
    params: Params,
    fast: Params,
    hidden: Slopes,
) -> tuple[_Slope, AuxT]:
    """Differentiate (params, fast) -> (scalar, aux) with respect to both arguments.

    Integer tensors are treated as constants.

    Args:
        function: the function to differentiate.
        params: parameters at which to differentiate.
        fast: fast parameters at which to differentiate.
        hidden: leaves of the hidden state. The function is also differentiated with respect to
            these leaves.
    """
    with torch.enable_grad():
        own_params, own_fast = _leaves(params), _leaves(fast)
        loss, aux = function(own_params, own_fast)
    leaves = [*own_params.values(), *(v for v in own_fast.values() if v.requires_grad)]
    leaves += hidden.values()
    if loss.requires_grad:
        grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    else:  # the initial fast parameters are constants
        grads = tuple(torch.zeros_like(leaf) for leaf in leaves)
    rest = iter(grads)
    of_params = {name: next(rest) for name in own_params}
    of_fast = {name: next(rest) for name, v in own_fast.items() if v.requires_grad}
    return _Slope(of_params, of_fast, {path: next(rest) for path in hidden}), aux


def _leaves(values: Mapping[str, Tensor]) -> Params:
    return {
        name: value.detach().requires_grad_() if _is_varied(value) else value
        for name, value in values.items()
    }


def _is_varied(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _detached(values: Mapping[str, Tensor]) -> Params:
    return {name: value.detach() for name, value in values.items()}


def _accumulate(total: Params, term: Params) -> None:
    """Add ``term`` to ``total``; out of place, because tensors may be shared."""
    for name, value in term.items():
        total[name] = total[name] + value if name in total else value
