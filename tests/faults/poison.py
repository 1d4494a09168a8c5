"""A learner with bad code: it exits, crashes, or returns values that are not finite."""

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from metafleet.episode import Episode
from metafleet.errors import NumericsError
from metafleet.learners.base import MetaGradient
from metafleet.learners.maml import Maml, MamlOptions
from metafleet.models.base import ModelFactory
from metafleet.params import MetaState
from metafleet.problem import Problem


@dataclass(frozen=True, slots=True)
class PoisonOptions:
    """``way``: "exit", "segfault", "memory", "nan", "none", or one of hanging (``_hang``)."""

    way: str


class Poison(Maml):
    """MAML until it is asked for a gradient."""

    Options: ClassVar[type] = PoisonOptions
    way: str

    @classmethod
    def build(  # type: ignore[override]
        cls, options: PoisonOptions, problem: Problem, make_model: ModelFactory
    ) -> Self:
        learner = super().build(MamlOptions(inner_lr=0.01), problem, make_model)
        learner.way = options.way
        return learner

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        if self.way == "exit":
            os._exit(3)
        if self.way == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.way == "memory":
            raise MemoryError("cannot allocate 4 TB")
        if self.way == "nan":
            raise NumericsError("query loss is nan at inner step 1")
        if self.way.startswith("hang") and (not self.way.endswith("once") or _is_first()):
            _hang(holding_the_lock="gil" in self.way)
        return super().episode_gradient(state, episode)


def _is_first() -> bool:
    """Return whether no process of this deployment has asked before."""
    try:
        (Path(os.environ["METAFLEET_HOME"]) / "hung").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _hang(*, holding_the_lock: bool) -> None:
    """Never return; ctypes.PyDLL keeps the interpreter lock while it calls."""
    library = ctypes.PyDLL(None) if holding_the_lock else ctypes.CDLL(None)
    library.sleep(1_000_000)
