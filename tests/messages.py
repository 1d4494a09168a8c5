"""Valid jobs, results and states for tests of the engine, to corrupt field by field."""

import uuid
from dataclasses import replace
from typing import Any

import torch

from metafleet.contracts.codec import content_digest, encode
from metafleet.contracts.job import InnerLoopJob, ShardResult
from metafleet.episode import EpisodeShape
from metafleet.orchestrator.engine.step import StepRequest
from metafleet.params import MetaState, Params, flatten_state
from metafleet.workload import WorkloadSpec

SPEC = WorkloadSpec(
    seed=3,
    data={"name": "sinusoid"},
    data_digest="d" * 64,
    episodes={"meta_train": EpisodeShape(n_way=0, k_shot=5, n_query=5)},
    model={"name": "mlp", "hidden": [4]},
    learner={"name": "maml"},
)


def new_uid() -> str:
    """A run of the test's own, so that tests may share a Redis."""
    return f"run-{uuid.uuid4().hex[:12]}"


def make_job(**changes: Any) -> InnerLoopJob:
    """A job as the orchestrator sends it; shard 1 of 4 of training step 7, under epoch 1."""
    fields: dict[str, Any] = {
        "run": "run-1",
        "epoch": 1,
        "stream": "train",
        "step": 7,
        "shard": 1,
        "n_shards": 4,
        "attempt": 0,
        "kind": "gradient",
        "split": "meta_train",
        "episode_step": 7,
        "first_episode": 3,
        "n_episodes": 3,
        "plan": "a" * 64,
        "state": "b" * 64,
        "state_bytes": 1234,
        "wire_dtype": "float32",
        "inputs": (),
        "host": "",
        "area": "",
        "direct": "",
        "via_store": False,
        "fingerprint": "torch=2.13.0 threads=1",
        "lease_ms": 3000,
        "deadline_s": 300.0,
        "sent_us": 1_700_000_000_000_000,
        "keeps_log": False,
        "trace": "",
    }
    return InnerLoopJob(**{**fields, **changes})


def make_result(**changes: Any) -> ShardResult:
    """What a worker answers to ``make_job()``, without a blob."""
    fields: dict[str, Any] = {
        "run": "run-1",
        "epoch": 1,
        "stream": "train",
        "step": 7,
        "shard": 1,
        "attempt": 0,
        "status": "ok",
        "worker": "host:42",
        "device": "cpu",
        "fingerprint": "torch=2.13.0 threads=1",
        "queue_wait_s": 0.1 + 0.2,
        "compute_s": 1 / 3,
        "losses": (0.7, 1.25, 1e-17),
        "accuracies": (0.5, 1.0, 0.0),
    }
    return ShardResult(**{**fields, **changes})


def make_state(seed: int = 0) -> MetaState:
    """A random state with parameters of two shapes and one buffer."""
    generator = torch.Generator().manual_seed(seed)
    weight, bias, mean = (torch.randn(size, generator=generator) for size in [(3, 4), (4,), (4,)])
    return MetaState({"layer.weight": weight, "layer.bias": bias}, {"norm.mean": mean})


def make_sums(seed: int) -> Params:
    """A random sum shaped like ``make_state()``, as it travels."""
    return flatten_state(make_state(seed))


def make_request(state: MetaState | None = None, **changes: Any) -> StepRequest:
    """Training step 7, ten episodes."""
    request = StepRequest(
        stream="train",
        step=7,
        kind="gradient",
        split="meta_train",
        episode_step=7,
        n_episodes=10,
        spec=SPEC,
        state=state or make_state(),
    )
    return replace(request, **changes)


def with_blob(result: ShardResult, sums: Params) -> tuple[ShardResult, bytes]:
    """``result`` promising the encoded ``sums``, and those bytes."""
    data = encode(sums).join()
    promise = {"blob_digest": content_digest(data), "blob_bytes": len(data)}
    return result.model_copy(update=promise), data
