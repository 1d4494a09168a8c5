"""Section [engine]: how the work is divided, computed and supervised."""

from typing import Literal, Self, cast

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from metafleet.execution import STRATEGIES
from metafleet.execution.strategy import Precision, StrategyName
from metafleet.orchestrator.config.section import MOST, Section


class EngineSection(Section):
    """Options for how the work is divided, computed and supervised.

    As long as ``numerics`` and ``policy`` are "strict", the bits of a result depend only on the
    options ``episodes_per_job``, ``device``, ``execution``, ``precision``, ``wire_dtype`` and
    ``max_staleness`` of this section.

    Attributes:
        episodes_per_job: number of episodes in a job, >= 1. With "auto", the fleet is measured when
            the run first begins, and the chosen number is recorded with the run; see
            docs/how-to/scaling.md.
        device: the device of the workers that get the jobs, "cpu" or "cuda". With "any", workers of
            both devices get jobs, and each job is sent to the device that should finish it first.
            "any" requires ``numerics = "relaxed"``.
        execution: how meta-gradients are computed. "autograd" computes one episode at a time.
            "vmap" computes several episodes at once. "compiled" computes several episodes at once,
            with a program compiled to machine code. It requires a C++ compiler, and compiling takes
            about a minute before the first step. "constant_memory" computes inner steps a second
            time instead of keeping them in memory. With "auto", ways to execute are measured when
            the run first begins, and the choice is recorded with the run; see
            docs/explanation/execution.md.
        precision: "float32" or "bfloat16". With "bfloat16", matrix products and convolutions of
            meta-training are computed in bfloat16.
        numerics: what happens if the arithmetic of a worker differs from the run's. With "strict",
            the worker is refused. With "relaxed", the worker is reported, and the run gives up
            identical bits.
        policy: what happens if some jobs of a step are not done after ``step_deadline_s``. With
            "strict", the run stops. With "partial", the step uses the jobs that are done, and the
            run gives up identical bits.
        min_fraction: with ``policy = "partial"``, the share of a step's jobs that must be done at
            the deadline, in (0, 1]. If fewer jobs are done, the run stops.
        max_attempts: how often a job may fail or lose its worker before the run stops, >= 1.
        checkpoint_every: outer steps between two checkpoints, >= 1.
        max_staleness: number of outer steps that are open in addition to the oldest open step, 0 to
            4. With the value n, each gradient is computed at parameters that are n outer steps
            older than with 0; see docs/explanation/engine.md#pipelining.
        step_deadline_s: maximum time for a step in seconds, > 0. Time without workers or without
            Redis does not count.
        job_deadline_s: maximum time for a job in seconds, > 0. If a job takes longer, its process
            is ended, and the job is sent to another worker.
        wire_dtype: dtype in which parameters and gradients are sent. "float32" is exact. With
            "bfloat16", they are rounded before they are sent, and the traffic is half as large.
        reduce_fan_in: number of jobs whose gradients one worker adds up, a power of two. In a step
            with at most this many jobs, the orchestrator adds up the gradients. With 0, the
            orchestrator adds up the gradients of every step. The bits do not depend on this option.
    """

    episodes_per_job: int | Literal["auto"] = Field(
        default=4, json_schema_extra={"expected": "an integer >= 1, or 'auto'"}
    )
    device: Literal["cpu", "cuda", "any"] = "cpu"
    execution: Literal[StrategyName, "auto"] = Field(
        default="autograd",
        json_schema_extra={"expected": f"one of: {', '.join(STRATEGIES)}, auto"},
    )
    precision: Precision = "float32"
    numerics: Literal["strict", "relaxed"] = "strict"
    policy: Literal["strict", "partial"] = "strict"
    min_fraction: float = Field(default=0.9, gt=0, le=1)
    max_attempts: int = Field(default=3, ge=1, le=MOST)
    checkpoint_every: int = Field(default=25, ge=1, le=MOST)
    max_staleness: int = Field(default=0, ge=0, le=4)
    step_deadline_s: float = Field(default=2400.0, gt=0)
    job_deadline_s: float = Field(default=600.0, gt=0)
    wire_dtype: Literal["float32", "bfloat16"] = "float32"
    reduce_fan_in: int = Field(default=0, ge=0, le=MOST)

    @field_validator("episodes_per_job", mode="before")
    @classmethod
    def _check_episodes_per_job(cls, value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value == "auto" or (is_number and cast(int, value) >= 1):
            return value
        is_in_range_type = is_number or isinstance(value, str)
        raise PydanticCustomError("range" if is_in_range_type else "work_size_type", "out of range")

    @property
    def own_device(self) -> str:
        """The device of this process when there is no fleet; for ``resolve_device``."""
        return "auto" if self.device == "any" else self.device

    @model_validator(mode="after")
    def _check_mixed(self) -> Self:
        if self.device == "any" and self.numerics == "strict":
            raise ValueError(
                'device="any" mixes processors that compute other last bits, and numerics="strict" '
                'refuses that; set numerics="relaxed", or device="cpu" or "cuda"'
            )
        return self

    @model_validator(mode="after")
    def _check_fan_in(self) -> Self:
        if self.reduce_fan_in == 1 or self.reduce_fan_in & (self.reduce_fan_in - 1):
            raise ValueError(
                f"reduce_fan_in={self.reduce_fan_in}; expected a power of two >= 2, or 0 for none"
            )
        return self
