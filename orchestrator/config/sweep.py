"""Section [sweep]."""

from typing import Literal

from pydantic import Field, field_validator

from metafleet.orchestrator.config.section import Section

MOST_TRIALS = 10_000
MOST_PARALLEL = 1_000


class SweepSection(Section):
    """How `metafleet sweep` searches. Single runs do not use this section.

    Attributes:
        over: the keys to try and their values, as the option --over has them, for example
            "outer.lr=log:0.001..1".
        trials: number of configurations to try. By default, all of a grid, else 20.
        sampler: how to choose values. By default, "grid" if every key has a list of values and
            trials is not given, else "random".
        prune: the rule by which bad trials end early. By default, "none".
        parallel: number of trials that servers execute at a time. By default, `metafleet sweep`
            executes one trial after another.
        seed: the seed of the sampler, >= 0.
    """

    over: list[str] = Field(default=[])
    trials: int | None = Field(default=None, ge=1, le=MOST_TRIALS)
    sampler: Literal["grid", "random", "tpe", "gp"] | None = None
    prune: Literal["none", "median", "hyperband", "history"] | None = None
    parallel: int | None = Field(default=None, ge=1, le=MOST_PARALLEL)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)

    @field_validator("over")
    @classmethod
    def _check_over(cls, over: list[str]) -> list[str]:
        for text in over:
            if "=" not in text:
                raise ValueError(f"{text!r:.80} has no values; expected 'KEY=VALUES'")
        return over
