"""MAML++: MAML with changes that make its training stable."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metafleet.learners.context import EpisodeContext
from metafleet.learners.maml import MamlOptions, MamlSteps
from metafleet.options import require
from metafleet.params import MetaState, Params

_WEIGHTS = "step weights"
_FIRST_ORDER = "first order"
_LEAST_WEIGHT = 0.03
"""Lower bound of an early step's weight, as a share of 1 / inner_steps."""


@dataclass(frozen=True, slots=True)
class MamlPlusPlusOptions(MamlOptions):
    """Options of ``MamlPlusPlus``.

    Attributes:
        inner_lr: initial value of every learned step size, > 0.
        inner_steps: gradient steps of the adaptation in meta-training, >= 1.
        inner_steps_eval: gradient steps in evaluation; None for ``inner_steps``. Additional steps
            use the step sizes and batch norm of the last step that meta-training takes.
        first_order: whether to drop second derivatives in all epochs.
        epoch_steps: number of outer steps in an epoch of the paper, >= 1.
        multi_step_epochs: number of epochs at the start in which the query loss after every inner
            step counts, >= 0.
        first_order_epochs: number of epochs at the start that drop second derivatives, >= 0.
    """

    inner_lr: float = 0.1
    inner_steps: int = 5
    epoch_steps: int = 500
    multi_step_epochs: int = 10
    first_order_epochs: int = 50

    def __post_init__(self) -> None:
        MamlOptions.__post_init__(self)
        require(self.epoch_steps >= 1, "epoch_steps", self.epoch_steps, "1 or more")
        for option in ("multi_step_epochs", "first_order_epochs"):
            value = getattr(self, option)
            require(value >= 0, option, value, "0 or more")


class MamlPlusPlus(MamlSteps[MamlPlusPlusOptions]):
    """MAML with the paper's six changes for stable training.

    - LSLR: theta_{j+1} = theta_j - alpha_{l,j} * grad L_S(theta_j), with a learned step size for
      each parameter l and inner step j. In the state, the step sizes of parameter "x" are named
      "rate.x", [K].
    - MSL: in the first E epochs, the objective is the sum over the K inner steps j of v_j *
      L_Q(theta_{j+1}). In epoch e, v_j = max(1/K - e / (K E), 0.03 / K) for j < K - 1. The last
      weight, v_{K-1}, makes the sum of all v_j 1. After the first E epochs, the objective is
      L_Q(theta_K).
    - DA: the first ``first_order_epochs`` epochs are first order. Later epochs are second order.
    - BNRS: the model's batch norm "per_step" keeps running statistics for each inner step.
    - BNWB: a scale and a shift of batch norm are learned for each inner step, [K, c] in the state.
      Inner steps do not adapt them.
    - CA, cosine annealing of the outer learning rate, is ``outer.schedule = "cosine"``.

    Source: Antoniou et al. 2019, arXiv:1810.09502, section 4. Two details follow the authors' code:
    the weights v_j, and the batch norm of the query set. The query set uses the batch norm of the
    last inner step before it.
    """

    name: ClassVar[str] = "maml_plus_plus"
    Options: ClassVar[type] = MamlPlusPlusOptions
    takes_several_labels: ClassVar[bool] = True

    def init_state(self, seed: int) -> MetaState:
        """Draw theta with a row of batch norm for each step; all step sizes start at inner_lr."""
        state = super().init_state(seed)
        n_steps = self.options.inner_steps
        norm = self._norm_names()
        params: Params = {}
        for name, value in state.params.items():
            if name in norm:
                params[name] = value.expand(n_steps, *value.shape).clone()
            else:
                params[name] = value
                params[f"rate.{name}"] = value.new_full(
                    (n_steps,), self.options.inner_lr, dtype=value.dtype.to_real()
                )
        return MetaState(params, state.buffers)

    def adapting(self, params: Params) -> Params:
        """Return theta without batch norm."""
        return {name: value for name, value in params.items() if f"rate.{name}" in params}

    def step_size(self, params: Params, name: str, index: int) -> float | Tensor:
        """Return alpha_{l,j}."""
        return params[f"rate.{name}"][self._row(index)]

    def outputs(
        self,
        params: Params,
        fast: Params,
        inputs: Mapping[str, Tensor],
        context: EpisodeContext,
    ) -> Tensor:
        """Apply the model with theta_j and the batch norm of the current step to the inputs."""
        row = self._row(context.norm.step)
        norm = {name: params[name][row] for name in self._norm_names() & params.keys()}
        return self.model.forward({**fast, **norm}, inputs, context.normalise)

    def is_first_order(self, context: EpisodeContext) -> bool:
        """Return whether second derivatives are dropped: in evaluation and in the first epochs."""
        return super().is_first_order(context) or _FIRST_ORDER in context.variant

    def variant(self, step: int) -> str:
        """Return a name for the order of derivatives and for the steps whose query loss counts."""
        epoch = self._epoch(step)
        order = _FIRST_ORDER if epoch < self.options.first_order_epochs else "second order"
        return f"{order}, {'each' if epoch < self.options.multi_step_epochs else 'last'} step"

    def schedule(self, step: int) -> Params:
        """Return v, [K], in the epochs in which every inner step counts."""
        epoch, n_epochs = self._epoch(step), self.options.multi_step_epochs
        if epoch >= n_epochs:
            return {}
        n_steps = self.options.inner_steps
        early = max(1.0 - epoch / n_epochs, _LEAST_WEIGHT) / n_steps
        weights = [early] * (n_steps - 1)
        return {_WEIGHTS: torch.tensor([*weights, 1.0 - sum(weights)])}

    def step_weights(self, context: EpisodeContext) -> Tensor | None:
        """Return v, or None if only the last step counts."""
        return context.schedule.get(_WEIGHTS)

    def _epoch(self, step: int) -> int:
        return max(step - 1, 0) // self.options.epoch_steps  # outer steps count from 1

    def _row(self, index: int) -> int:
        return min(index, self.options.inner_steps - 1)

    def _norm_names(self) -> frozenset[str]:
        kinds = ("scale", "shift")
        return frozenset(f"{layer}.norm.{kind}" for layer in self.model.layers for kind in kinds)
