"""A run's work, described in JSON and rebuilt anywhere: the one path of every shard.

``Workload.build`` turns a ``WorkloadSpec`` into a learner and an episode source. The in-process
dispatcher and the Celery workers call the same ``gradient`` and ``evaluate``, so that where a shard
is computed cannot change what comes out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metafleet.episode import EpisodeShape
from metafleet.learners.base import EpisodeMetrics, Learner, MetaGradient
from metafleet.params import MetaState

Options = Mapping[str, Any]
"""JSON values by name. Always holds "name", which the registry of its kind knows."""


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """Everything that decides the arithmetic of a run; plain JSON values only.

    Attributes:
        seed: the run's seed; episodes and the initial state come from it.
        data: data set name and options.
        data_digest: sha256 of the prepared data and split; workers refuse other data.
        episodes: split -> shape of its episodes.
        model: model name and options.
        learner: learner name and options.
    """

    seed: int
    data: Options
    data_digest: str
    episodes: Mapping[str, EpisodeShape]
    model: Options
    learner: Options
