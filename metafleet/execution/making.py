"""Make the execution of a strategy."""

from collections.abc import Sequence
from pathlib import Path

from metafleet.episode import Episode
from metafleet.errors import ConfigError, MetafleetError
from metafleet.execution.base import Execution
from metafleet.execution.compiled import CompiledExecution
from metafleet.execution.compiler import first_line
from metafleet.execution.mapped import MappedExecution
from metafleet.execution.one_by_one import AutogradExecution, ConstantMemoryExecution
from metafleet.execution.strategy import Precision, Strategy
from metafleet.learners.base import Learner
from metafleet.options import name_of
from metafleet.params import MetaState


def make_execution(
    strategy: Strategy | str,
    learner: Learner,
    *,
    device: str = "cpu",
    cache_dir: Path | None = None,
) -> Execution:
    """Bind a strategy to a learner. This is cheap and compiles nothing.

    Args:
        strategy: the strategy, or only its name.
        learner: the learner whose episodes are executed.
        device: torch device on which states and episodes are.
        cache_dir: folder for machine code; required by "compiled".

    Raises:
        ConfigError: the strategy cannot execute the learner.
    """
    if isinstance(strategy, str):
        strategy = Strategy.from_json({"name": strategy, "precision": "float32", "chunk": 0})
    if strategy.name == "autograd":
        return AutogradExecution(strategy, learner, device=device)
    if strategy.name == "constant_memory":
        return ConstantMemoryExecution(strategy, learner, device=device)
    if strategy.name == "vmap":
        return MappedExecution(strategy, learner, device=device)
    return CompiledExecution(strategy, learner, device=device, cache_dir=cache_dir)


def check_mapped(
    learner: Learner,
    state: MetaState,
    episodes: Sequence[Episode],
    *,
    precision: Precision = "float32",
) -> None:
    """Check on the CPU that a learner can be mapped over ``episodes`` (``vmap``).

    Raises:
        ConfigError: the learner cannot be mapped over episodes.
    """
    execution = make_execution(Strategy("vmap", precision), learner)
    try:
        execution.gradient(state, episodes)
    except ConfigError:
        raise
    except MetafleetError:
        return  # the actual computation reports errors in the numbers
    except Exception as error:  # torch may raise anything if it cannot map a function
        raise ConfigError(
            f"learner {name_of(type(learner))!r} cannot be mapped over episodes in {precision} "
            f"({first_line(error)}); choose execution='autograd'"
        ) from error
