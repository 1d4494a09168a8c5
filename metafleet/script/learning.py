"""A module, an algorithm, and the learner that the first data bind them to."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metafleet.episode import ExampleSet
from metafleet.episodes.class_targets import IsIgnored, none_ignored
from metafleet.errors import ConfigError, NumericsError
from metafleet.execution import make_execution
from metafleet.interrupts import uninterrupted
from metafleet.learners.inner_loop import InnerLoopLearner
from metafleet.models.module_function import ModuleFunction
from metafleet.params import Params
from metafleet.problem import LossFn
from metafleet.purity.hidden_state import HiddenState
from metafleet.script.arguments import check_optimiser
from metafleet.script.binding import Algorithm, Binding, bind, bind_to_losses, require_losses_enough
from metafleet.script.bound import Bound
from metafleet.script.checked_loss import CheckedLoss
from metafleet.script.learned_state import LearnedState
from metafleet.script.plain_episode import ignored_by
from metafleet.script.runtime import running

MakeOptimiser = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
"""Learned parameters -> their optimiser, such as ``lambda params: SGD(params, lr=0.1)``."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The arguments of ``MetaLearner`` other than module and algorithm; see there."""

    loss: LossFn | None
    make_optimiser: MakeOptimiser
    clip_norm: float
    batch_norm: str | None
    execution: str
    seed: int


class Learning:
    """The learned state together with its optimiser and algorithm.

    Args:
        function: the module.
        algorithm: the learner that the user chose.
        choices: all other arguments of ``MetaLearner``.
        like: tensor that gives the device, and the precision of floating point tensors.

    Attributes:
        step: number of outer steps taken.
        hidden: the hidden state that the module's forward pass may change.
        bound: the parts that depend on the shapes of the data. None until the first data arrive.
        algorithm: the algorithm in use. Its default step size may change until the first update.
        is_decided: whether an update was made. The step size is then fixed.
        is_judged: whether the module has adapted to an episode before the first update.
    """

    def __init__(
        self, function: ModuleFunction, algorithm: Algorithm, choices: Choices, *, like: Tensor
    ) -> None:
        self.function = function
        self.loss = None if choices.loss is None else CheckedLoss(choices.loss, function)
        self.asked = self.algorithm = algorithm
        self.is_decided = self.is_judged = False
        self.choices = choices
        self.like = like
        self.hidden = HiddenState(function.module, devices=[like.device])
        self.step = 0
        self.bound: Bound | None = None

    @property
    def module(self) -> nn.Module:
        """The module."""
        return self.function.module

    @property
    def ignored_in_support(self) -> IsIgnored:
        """Which classes of a support set to ignore; none for learners that read the targets."""
        found = self.algorithm.found
        if not issubclass(found, InnerLoopLearner) or found.reads_targets:
            return none_ignored
        return ignored_by(self.choices.loss)

    @property
    def ignored_in_query(self) -> IsIgnored:
        """Which classes of a query set to ignore."""
        if self.choices.loss is None:
            return self.ignored_in_support
        return ignored_by(self.choices.loss)

    @property
    def loss_of_targets(self) -> CheckedLoss | None:
        """The user's loss; it records how the targets of the first (binding) episode are packed."""
        is_bound = self.bound is not None and self.bound.binding.is_seen
        if self.loss is not None and not is_bound:
            self.loss.forget_layout()
        return self.loss

    def require_bound(self) -> Bound:
        """Return the bound learner.

        Raises:
            ConfigError: no data were seen yet.
        """
        if self.bound is None:
            raise ConfigError("no episode was seen yet; call bind with a support set, or optimize")
        return self.bound

    def bind(self, support: ExampleSet, n_way: int) -> tuple[Bound, int]:
        """Bind the learner if necessary; return the binding and the n_way to use for ``support``.

        Raises:
            ConfigError, DataError: algorithm, module and data do not fit together.
        """
        if self.bound is None or not self.bound.binding.is_seen:
            with running(self.module, is_training=False), self.hidden.kept():
                binding = bind(
                    self.algorithm,
                    self.function,
                    support,
                    n_way,
                    loss=self.loss,
                    batch_norm=self.choices.batch_norm,
                )
            self.bound = self._made(binding)
        return self.bound, self.bound.binding.check(n_way)

    def bind_to_losses(self) -> Bound:
        """Bind the learner, if necessary, to losses that a training loop computes.

        Raises:
            ConfigError: the algorithm needs more than losses.
        """
        require_losses_enough(self.algorithm)
        if not self.is_decided:
            self.use(self.asked.for_losses())
        if self.bound is None:
            binding = bind_to_losses(
                self.algorithm, self.function, batch_norm=self.choices.batch_norm
            )
            self.bound = self._made(binding)
        return self.bound

    def use(self, algorithm: Algorithm) -> None:
        """Switch to another step size; the binding and the learned parameters stay."""
        if algorithm == self.algorithm:
            return
        bound = (
            None if self.bound is None else self._made(self.bound.binding.with_algorithm(algorithm))
        )
        self.algorithm, self.bound = algorithm, bound

    def decide(self) -> None:
        """Fix the current step size, because an update now uses it."""
        before = self.asked.options
        if not self.is_decided and self.is_judged and before != self.algorithm.options:
            warnings.warn(
                f"inner_lr is {self.algorithm.options.inner_lr} from this training loop on, and "
                f"was {before.inner_lr} when episodes were adapted to before it; give inner_lr to "
                "compare before and after",
                stacklevel=4,
            )
        self.is_decided = True

    def follow(
        self,
        grads: Params,
        *,
        n_episodes: int,
        buffers: Params | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> float:
        """Take an outer step along the mean gradient, and return the norm of this gradient.

        An interrupt takes effect either before or after the whole step.

        Args:
            grads: sums of gradients, by parameter name.
            n_episodes: number of episodes in the sums.
            buffers: sums of batch norm statistics. None if the module itself keeps the statistics.
            settle: a function that writes the step's other changes to the module.

        Raises:
            NumericsError: the norm is not finite. Nothing is changed in this case.
        """
        bound, clip_norm = self.require_bound(), self.choices.clip_norm
        optimiser = bound.require_optimiser()
        with uninterrupted():
            try:
                norm = bound.state.set_gradients(grads, n_episodes=n_episodes)
                if not math.isfinite(norm):
                    raise NumericsError(
                        f"outer step {self.step + 1}: the norm of the mean meta-gradient is "
                        f"{norm}; lower outer_lr or inner_lr, or set clip_norm"
                    )
                if 0.0 < clip_norm < norm:
                    bound.state.scale_gradients(clip_norm / norm)
                settle()
                optimiser.step()
                if buffers is not None:
                    bound.state.move_statistics(buffers, n_episodes=n_episodes)
                self.is_decided = True
                self.step += 1
            finally:
                bound.state.drop_gradients()
        return norm

    def _made(self, binding: Binding) -> Bound:
        """Add learned state and optimiser to a binding; parameters learned from losses stay."""
        before, choices = self.bound, self.choices
        if before is not None:
            before.state.require_unchanged()
        state = LearnedState(
            binding.learner,
            self.function,
            seed=choices.seed,
            like=self.like,
            own_params={} if before is None else before.state.own_params,
        )
        if before is not None:
            optimiser = before.optimiser
        else:
            params = list(state.params.values())
            optimiser = choices.make_optimiser(params) if params else None
            if params:
                check_optimiser(optimiser)
        device = str(self.like.device)
        execution = make_execution(choices.execution, binding.learner, device=device)
        return Bound(binding, state, optimiser, execution)
