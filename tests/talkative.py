"""A learner whose first job says things, some of them secret, and then goes wrong."""

import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from metafleet.episode import Episode
from metafleet.learners.base import MetaGradient
from metafleet.learners.maml import Maml, MamlOptions
from metafleet.models.base import ModelFactory
from metafleet.params import MetaState
from metafleet.problem import Problem

TOKEN = "tok-5f2c9e81"  # in the environment of the worker


@dataclass(frozen=True, slots=True)
class TalkativeOptions:
    """``way``: how the first job ends: "raise", "sleep" (for long) or "well"."""

    way: str


class Talkative(Maml):
    """MAML, but the first gradient of a deployment goes wrong."""

    Options: ClassVar[type] = TalkativeOptions
    way: str

    @classmethod
    def build(  # type: ignore[override]
        cls, options: TalkativeOptions, problem: Problem, make_model: ModelFactory
    ) -> Self:
        learner = super().build(MamlOptions(inner_lr=0.01), problem, make_model)
        learner.way = options.way
        return learner

    def episode_gradient(self, state: MetaState, episode: Episode) -> MetaGradient:
        if self._is_first():
            url = os.environ.get("METAFLEET_BROKER_URL", "nowhere")
            logging.getLogger("lab").warning("connected to %s", url)
            print("printed \x1b[31mred", file=sys.stdout)  # noqa: T201 - what users do
            if self.way == "sleep":
                time.sleep(60)
            if self.way == "raise":
                password = url.split(":")[2].split("@")[0]
                raise RuntimeError(f"no {password} for {os.environ.get('METAFLEET_LAB_TOKEN')}")
        return super().episode_gradient(state, episode)

    def _is_first(self) -> bool:
        try:
            (Path(os.environ["METAFLEET_HOME"]) / "talked").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
