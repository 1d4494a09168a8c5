"""The learned state of a ``MetaLearner``: the module's own parameters, and the learner's."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metafleet.errors import ConfigError
from metafleet.learners.episodic import EpisodicLearner
from metafleet.models.batch_norm import average_buffers
from metafleet.models.module_function import ModuleFunction
from metafleet.models.module_model import PREFIX
from metafleet.models.module_statistics import move_statistics, read_statistics
from metafleet.params import MetaState, Params


class LearnedState:
    """Everything that a learner has learned for a module. The module stores its own parameters.

    Args:
        learner: learner bound to the module.
        function: the module.
        seed: seed for the initial values of the learner's own tensors.
        like: tensor that gives device and precision of the learner's own tensors.
        own_params: trained values of the learner's own parameters.

    Attributes:
        params: all learned parameters by name, including the module's.
        own_params: the learned parameters that belong to the learner.
        own_buffers: batch norm statistics that the module has no buffers for.
    """

    def __init__(
        self,
        learner: EpisodicLearner[Any],
        function: ModuleFunction,
        *,
        seed: int,
        like: Tensor,
        own_params: Mapping[str, nn.Parameter],
    ) -> None:
        first = learner.init_state(seed)
        module = {PREFIX + name: value for name, value in function.module.named_parameters()}
        self._module = function.module
        self._learned = self._learned_now()
        # the module's statistics have its shapes in every mode but "per_step"
        self._norms = {
            name: layer
            for name, layer in function.norms.items()
            if name + ".mean" in first.buffers
            and layer.running_mean is not None
            and first.buffers[name + ".mean"].shape == layer.running_mean.shape
        }
        here = read_statistics(self._norms)
        self.own_params = {
            name: own_params[name]
            if name in own_params
            else nn.Parameter(value.detach().to(like).clone())
            for name, value in first.params.items()
            if name not in module
        }
        self.own_buffers: Params = {
            name: value.to(like).clone()
            for name, value in first.buffers.items()
            if name not in here
        }
        self.params: dict[str, nn.Parameter] = {
            name: self.own_params[name] if name in self.own_params else module[name]
            for name in first.params
        }

    def require_unchanged(self) -> None:
        """Check that the module still has the parameters that this state was made with.

        Raises:
            ConfigError: a parameter was added, removed, replaced, frozen, moved or cast. The
                message names the first such parameter.
        """
        before, now = self._learned, self._learned_now()
        for name in before | now:
            old, new = before.get(name), now.get(name)
            if old is None:
                change = "was added or unfrozen"
            elif new is None:
                change = "was removed or frozen"
            elif new[0] is not old[0]:
                change = "was replaced"
            elif new[1:] != old[1:]:
                change = f"is {new[1]} on {new[2]} and was {old[1]} on {old[2]}; it was changed"
            else:
                continue
            raise ConfigError(
                f"parameter {name!r} {change} after the MetaLearner was bound, which learns the "
                "parameters that were there then; make a new MetaLearner of the module"
            )

    def _learned_now(self) -> dict[str, tuple[nn.Parameter, torch.dtype, torch.device]]:
        """Return the module's trainable parameters, with their precision and device."""
        return {
            name: (value, value.dtype, value.device)
            for name, value in self._module.named_parameters()
            if value.requires_grad
        }

    def view(self) -> MetaState:
        """Return the current state; its parameters share memory with the learned ones."""
        params = {name: value.detach() for name, value in self.params.items()}
        return MetaState(params, self.own_buffers | read_statistics(self._norms))

    def copy(self) -> MetaState:
        """Return a copy of the current state."""
        now = self.view()
        return MetaState(
            {name: value.clone() for name, value in now.params.items()},
            {name: value.clone() for name, value in now.buffers.items()},
        )

    def set_gradients(self, sums: Mapping[str, Tensor], *, n_episodes: int) -> float:
        """Set every parameter's gradient to the mean; return the Euclidean norm over all."""
        for name, value in self.params.items():
            value.grad = sums[name] / n_episodes
        norms = [_norm(g.grad) for g in self.params.values() if g.grad is not None]
        return float(torch.stack(norms).norm()) if norms else 0.0

    def scale_gradients(self, factor: float) -> None:
        """Multiply all gradients."""
        for value in self.params.values():
            if value.grad is not None:
                value.grad.mul_(factor)

    def drop_gradients(self) -> None:
        """Clear all gradients."""
        for value in self.params.values():
            value.grad = None

    def move_statistics(self, sums: Mapping[str, Tensor], *, n_episodes: int) -> None:
        """Move running statistics towards an outer step's mean, using the module's momentum."""
        move_statistics(self._norms, sums, n_episodes=n_episodes)
        self.own_buffers = average_buffers(self.own_buffers, sums, n_episodes=n_episodes)


def _norm(grad: Tensor) -> Tensor:
    """Return the Euclidean norm in double precision; a complex number counts as two real ones."""
    real = torch.view_as_real(grad) if grad.is_complex() else grad
    norm: Tensor = torch.linalg.vector_norm(real.double())
    return norm
