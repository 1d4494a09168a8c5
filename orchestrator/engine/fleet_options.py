"""Options for a run's use of the fleet."""

from dataclasses import dataclass

from metafleet.contracts.codec import WireDtype


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """Options for the use of the fleet, from the ``[engine]`` table.

    Attributes:
        episodes_per_job: episodes in a shard, >= 1.
        device: the device class whose queue is used, "cpu" or "cuda"; "any" for both queues.
        is_strict: whether to refuse workers whose numerics fingerprint differs from the run's.
        max_attempts: how often a shard may fail or lose its worker, >= 1.
        min_fraction: share of a gradient step's shards that must be done at the step's deadline, in
            (0, 1]. 1.0 is the strict policy: if a shard is missing, the run stops.
        step_deadline_s: maximum time for one step in seconds, > 0. Time without a live worker does
            not count.
        job_deadline_s: maximum time for one job in seconds, > 0.
        wire_dtype: type to which float32 tensors of states and sums are converted for sending.
        reduce_fan_in: number of sums that one worker adds up, a power of two. If a step has at most
            this many sums, the orchestrator adds them up. 0 if the orchestrator adds up the sums of
            every step.
    """

    episodes_per_job: int
    device: str
    is_strict: bool
    max_attempts: int
    step_deadline_s: float
    min_fraction: float = 1.0
    job_deadline_s: float = 600.0
    wire_dtype: WireDtype = "float32"
    reduce_fan_in: int = 0
