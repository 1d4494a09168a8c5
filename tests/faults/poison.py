"""A learner that does to its worker what bad code does: exits, crashes, or makes no numbers."""

import os
import signal
from dataclasses import dataclass
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
    """``way``: "exit", "segfault", "memory" or "nan"."""

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
        raise NumericsError("query loss is nan at inner step 1")
