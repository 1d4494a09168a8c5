"""The rate at which workers can draw episodes from prepared data."""

import statistics
import tempfile
from pathlib import Path

from benchmarks.round_robin import time_in_turns
from metafleet.data import registry as datasets
from metafleet.episode import META_TRAIN, EpisodeShape
from metafleet.workload import Workload, WorkloadSpec

N_EPISODES = 500
N_QUERY = (1, 15)


def episodes_per_s(*, repeats: int) -> dict[str, dict[str, float]]:
    """Prepare glyphs in a temporary folder, and draw 5-way 1-shot episodes of 28x28 images."""
    with tempfile.TemporaryDirectory() as home:
        data_dir, data = Path(home), {"name": "glyphs"}
        digest = datasets.open_data(data, data_dir).digest()
        works = {}
        for n_query in N_QUERY:
            spec = WorkloadSpec(
                seed=1,
                data=data,
                data_digest=digest,
                episodes={META_TRAIN: EpisodeShape(n_way=5, k_shot=1, n_query=n_query)},
                model={"name": "conv4"},
                learner={"name": "maml"},
            )
            workload = Workload.build(spec, data_dir=data_dir)
            works[f"{n_query} query"] = lambda drawn=workload: [
                drawn.sample(split=META_TRAIN, step=1, index=i) for i in range(N_EPISODES)
            ]
        times = time_in_turns(works, repeats=repeats)
    rates = {name: [N_EPISODES / s for s in seconds] for name, seconds in times.items()}
    return {
        name: {"median": statistics.median(rate), "min": min(rate), "max": max(rate)}
        for name, rate in rates.items()
    }
