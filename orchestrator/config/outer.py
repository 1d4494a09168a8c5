"""Section [outer]: the outer loop."""

from typing import Literal, Self

from pydantic import Field, model_validator

from metafleet.orchestrator.config.section import MOST, MOST_AT_ONCE, MOST_WEIGHT, Section


class OuterSection(Section):
    """The outer loop: number and size of the steps, optimiser and schedule.

    Attributes:
        steps: number of outer steps, >= 1.
        meta_batch_size: number of episodes in each outer step, >= 1.
        optimiser: "adam" or "sgd".
        lr: outer learning rate, > 0.
        momentum: momentum of "sgd", in [0, 1).
        weight_decay: each step adds this multiple of the parameters to their gradient; >= 0.
        clip_norm: maximum Euclidean norm of the mean meta-gradient; 0 for no clipping.
        schedule: schedule of the learning rate: "constant", "cosine" or "step".
        warmup_steps: number of outer steps in which the learning rate rises to ``lr``, 0 to
            ``steps``.
        step_every: with the schedule "step", the number of outer steps between two reductions of
            the learning rate.
        step_gamma: with the schedule "step", the factor by which a reduction multiplies the
            learning rate, in (0, 1].
    """

    steps: int = Field(ge=1, le=MOST)
    meta_batch_size: int = Field(ge=1, le=MOST_AT_ONCE)
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0, le=MOST_WEIGHT)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, le=MOST_WEIGHT)
    clip_norm: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup_steps: int = Field(default=0, ge=0, le=MOST)
    step_every: int = Field(default=0, ge=0, le=MOST)
    step_gamma: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.momentum and self.optimiser != "sgd":
            raise ValueError(
                f"momentum={self.momentum} has no meaning with optimiser={self.optimiser!r}; "
                "expected momentum=0.0, or optimiser='sgd'"
            )
        if self.schedule == "step" and not self.step_every:
            raise ValueError("step_every=0 with schedule='step'; expected an integer >= 1")
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} exceeds steps={self.steps}; lower warmup_steps"
            )
        return self
