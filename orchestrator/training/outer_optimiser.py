"""The outer update: clip the mean meta-gradient, step, update the running statistics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metafleet.errors import CheckpointError, NumericsError
from metafleet.models.batch_norm import average_buffers
from metafleet.orchestrator.config.outer import OuterSection
from metafleet.params import MetaState, Params, unflatten_state

_MOMENTS = {"adam": ("exp_avg", "exp_avg_sq", "step"), "sgd": ("momentum_buffer",)}


@dataclass(frozen=True, slots=True)
class UpdateFacts:
    """Facts about one update: Euclidean gradient norm before clipping, and learning rate."""

    grad_norm: float
    lr: float


class OuterOptimiser:
    """Holds the meta-learned state and updates it. Not thread-safe.

    The learning rate depends only on the number of the step. So the moments of torch's optimiser
    are the only state of the optimiser that a checkpoint must contain.

    Args:
        options: the ``[outer]`` table.
        state: the initial state. It is copied.
    """

    def __init__(self, options: OuterSection, state: MetaState) -> None:
        self._options = options
        self._params = {
            name: tensor.detach().clone().requires_grad_() for name, tensor in state.params.items()
        }
        self._buffers = {name: tensor.clone() for name, tensor in state.buffers.items()}
        self._torch = self._build()

    @property
    def state(self) -> MetaState:
        """A copy of the current state."""
        return MetaState(
            {name: tensor.detach().clone() for name, tensor in self._params.items()},
            {name: tensor.clone() for name, tensor in self._buffers.items()},
        )

    def lr(self, step: int) -> float:
        """Return the learning rate of outer step ``step``, from 1."""
        options = self._options
        if step <= options.warmup_steps:
            return options.lr * step / options.warmup_steps
        if options.schedule == "cosine":
            done = (step - 1 - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
            return options.lr * 0.5 * (1.0 + math.cos(math.pi * done))
        if options.schedule == "step":
            return float(options.lr * options.step_gamma ** ((step - 1) // options.step_every))
        return options.lr

    def update(self, step: int, sums: Params, n_episodes: int) -> UpdateFacts:
        """Apply one outer step.

        Args:
            step: number of the outer step, from 1.
            sums: name of a tensor of the state -> sum of its gradients over the meta-batch. This
                method may modify the sums.
            n_episodes: number of episodes in the meta-batch. This method divides the sums by it.

        Raises:
            NumericsError: the mean meta-gradient is not finite.
        """
        total = unflatten_state(sums)
        for name, param in self._params.items():
            param.grad = total.params[name].div_(n_episodes)
        norm = self._norm()
        if not math.isfinite(norm):
            raise NumericsError(
                f"outer step {step}: the norm of the mean meta-gradient is {norm}; lower "
                "outer.lr or learner.inner_lr, or set outer.clip_norm"
            )
        if 0.0 < self._options.clip_norm < norm:
            for param in self._params.values():
                if param.grad is not None:
                    param.grad.mul_(self._options.clip_norm / norm)
        lr = self.lr(step)
        for group in self._torch.param_groups:
            group["lr"] = lr
        self._torch.step()
        self._torch.zero_grad(set_to_none=True)
        self._buffers = average_buffers(self._buffers, total.buffers, n_episodes=n_episodes)
        return UpdateFacts(norm, lr)

    def moments(self) -> Params:
        """Return torch's moments as named tensors, for a checkpoint."""
        return {
            f"{name}.{moment}": value.detach().clone()
            for name, param in self._params.items()
            for moment, value in self._torch.state.get(param, {}).items()
            if isinstance(value, Tensor)
        }

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Restore moments that ``moments`` returned.

        Raises:
            CheckpointError: the moments belong to other parameters or another optimiser.
        """
        allowed = _MOMENTS[self._options.optimiser]
        for name, value in moments.items():
            param_name, _, moment = name.rpartition(".")
            if param_name not in self._params or moment not in allowed:
                raise CheckpointError(
                    f"the checkpoint has {name!r}, which optimiser "
                    f"{self._options.optimiser!r} of this model does not have"
                )
            self._torch.state[self._params[param_name]][moment] = value.clone()

    def _norm(self) -> float:
        norms = [p.grad.double().norm() for p in self._params.values() if p.grad is not None]
        return float(torch.stack(norms).norm()) if norms else 0.0

    def _build(self) -> torch.optim.Optimizer:
        options, params = self._options, list(self._params.values())
        if options.optimiser == "adam":
            return torch.optim.Adam(params, lr=options.lr, weight_decay=options.weight_decay)
        return torch.optim.SGD(
            params, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
