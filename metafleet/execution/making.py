"""From the name of a strategy to what does it."""

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
    """Bind a strategy to a learner; cheap, nothing is compiled yet.

    Args:
        strategy: which, or its name alone.
        learner: whose episodes.
        device: torch device of states and episodes.
        cache_dir: where "compiled" keeps machine code; it asks for one.

    Raises:
        ConfigError: the learner cannot be executed so.
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
    """Make sure that a learner can be mapped over episodes, on the CPU, by doing it.

    Raises:
        ConfigError: it cannot.
    """
    execution = make_execution(Strategy("vmap", precision), learner)
    try:
        execution.gradient(state, episodes)
    except ConfigError:
        raise
    except MetafleetError:
        return  # what is wrong with the numbers is said where they are computed
    except Exception as error:  # whatever torch makes of a function that it cannot map
        raise ConfigError(
            f"learner {name_of(type(learner))!r} cannot be mapped over episodes in {precision} "
            f"({first_line(error)}); choose execution='autograd'"
        ) from error
