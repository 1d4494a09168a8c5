"""Section [engine]: how the work is divided, computed and supervised."""

from typing import Literal, Self, cast

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from metafleet.execution import STRATEGIES
from metafleet.execution.strategy import Precision, StrategyName
from metafleet.orchestrator.config.section import MOST, Section


class EngineSection(Section):
    """Options for how the work is divided, computed and supervised.

    Only ``episodes_per_job``, ``device``, ``execution``, ``precision``, ``wire_dtype`` and
    ``max_staleness`` change the bits of a result.

    Attributes:
        episodes_per_job: episodes in a job, >= 1. "auto" measures the fleet when the run first
            begins and records the number with the run; see docs/how-to/scaling.md.
        device: the device of the workers that get the jobs, "cpu" or "cuda". "any" uses both, sends
            each job where it should finish first, and needs ``numerics = "relaxed"``.
        execution: how meta-gradients are computed. "autograd" takes one episode at a time, "vmap"
            several at once. "compiled" takes several at once as machine code; it needs a C++
            compiler, and about a minute before the first step. "constant_memory" recomputes inner
            steps instead of keeping them. "auto" measures when the run first begins and records the
            choice with the run; see docs/explanation/execution.md.
        precision: "float32", or "bfloat16" for matrix products and convolutions of meta-training.
        numerics: "strict" refuses workers whose arithmetic differs; "relaxed" reports them, and
            gives up identical bits.
        policy: what happens if jobs of a step are missing at ``step_deadline_s``. With "strict",
            the run stops. With "partial", the step uses the jobs that are done, and the run gives
            up identical bits.
        min_fraction: with ``policy = "partial"``, the smallest share of a step's jobs that must be
            done, in (0, 1]; with fewer, the run stops.
        max_attempts: how often a job may fail or lose its worker before the run stops, >= 1.
        checkpoint_every: outer steps between two checkpoints, >= 1.
        max_staleness: number of outer steps that begin before an earlier step has ended, 0 to 4.
            With n, each gradient is computed at parameters that are n steps older; see
            docs/explanation/engine.md#pipelining.
        step_deadline_s: maximum seconds for a step while workers and Redis are available, > 0.
        job_deadline_s: maximum seconds for a job, > 0. After that, its process is ended and the job
            goes to another worker.
        wire_dtype: "float32" is exact. "bfloat16" rounds parameters and gradients before they are
            sent, and halves the traffic.
        reduce_fan_in: number of jobs whose gradients one worker adds up, a power of two. It has an
            effect only in steps with more jobs than this. With 0, the orchestrator adds up all
            gradients. The bits are the same either way.
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
