"""A module, an algorithm, and what comes of them once the first data are seen."""

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
"""Learned parameters -> what steps them, such as ``lambda params: SGD(params, lr=0.1)``."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a ``MetaLearner`` is made with besides module and algorithm; see there."""

    loss: LossFn | None
    make_optimiser: MakeOptimiser
    clip_norm: float
    batch_norm: str | None
    execution: str
    seed: int


class Learning:
    """What is learned, and what steps it.

    Args:
        function: the module.
        algorithm: the learner that is asked for.
        choices: all else.
        like: where tensors go, and the precision of those with floats.

    Attributes:
        step: outer steps done.
        hidden: what the module's forward pass may change.
        bound: all that depends on shapes of data; None until some are seen.
        algorithm: as it is used now; its default step size is open until something is learned.
        is_decided: whether something was learned, so that this step size stays.
        is_judged: whether an episode was adapted to before that.
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
        """Which classes of a support set are none; all are some to learners that look at them."""
        found = self.algorithm.found
        if not issubclass(found, InnerLoopLearner) or found.reads_targets:
            return none_ignored
        return ignored_by(self.choices.loss)

    @property
    def ignored_in_query(self) -> IsIgnored:
        """Which classes of a query set are none."""
        if self.choices.loss is None:
            return self.ignored_in_support
        return ignored_by(self.choices.loss)

    @property
    def loss_of_targets(self) -> CheckedLoss | None:
        """The user's loss, which keeps how the targets of the episode that binds are packed."""
        is_bound = self.bound is not None and self.bound.binding.is_seen
        if self.loss is not None and not is_bound:
            self.loss.forget_layout()
        return self.loss

    def require_bound(self) -> Bound:
        """Return what is bound.

        Raises:
            ConfigError: nothing is.
        """
        if self.bound is None:
            raise ConfigError("no episode was seen yet; call bind with a support set, or optimize")
        return self.bound

    def bind(self, support: ExampleSet, n_way: int) -> tuple[Bound, int]:
        """Bind where nothing is yet; return what is bound, and the n_way it takes these with.

        Raises:
            ConfigError, DataError: algorithm, module and data do not go together.
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
        """Bind, where nothing is yet, to losses that a training loop computes.

        Raises:
            ConfigError: they mean nothing to the algorithm.
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
        """Go on with another step size; what is bound and what is learned stay."""
        if algorithm == self.algorithm:
            return
        bound = (
            None if self.bound is None else self._made(self.bound.binding.with_algorithm(algorithm))
        )
        self.algorithm, self.bound = algorithm, bound

    def decide(self) -> None:
        """Keep the step size that is in use, for something is learned with it."""
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
        """Do an outer step along the mean of gradients that are summed up; return its norm.

        An interrupt comes before all of the step or after it.

        Args:
            grads: by the names of what is learned.
            n_episodes: how many are summed up.
            buffers: batch norm statistics, summed up likewise; None where they are the module's.
            settle: writes what else the step leaves in the module.

        Raises:
            NumericsError: it is not finite; nothing is changed.
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
        """Surround a binding with what is learned; what was learned from losses stays."""
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
