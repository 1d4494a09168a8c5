"""Repositories, one for each kind of record, over one session. The caller commits."""

from typing import Any, Final

from metafleet.db.repositories.attempts import (
    AttemptCountRepository,
    AttemptLogRepository,
    AttemptRepository,
)
from metafleet.db.repositories.checkpoints import CheckpointRepository
from metafleet.db.repositories.descriptions import DescriptionRepository
from metafleet.db.repositories.episode_results import EpisodeResultsRepository
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.experiments import ExperimentRepository
from metafleet.db.repositories.inner_curves import InnerCurveRepository
from metafleet.db.repositories.inner_rates import InnerRatesRepository
from metafleet.db.repositories.jobs import JobRepository
from metafleet.db.repositories.outer_steps import OuterStepRepository
from metafleet.db.repositories.run_notes import RunNotes
from metafleet.db.repositories.run_queue import RunQueue
from metafleet.db.repositories.run_rows import RunRows
from metafleet.db.repositories.runs import RunRepository
from metafleet.db.repositories.servers import ServerRepository
from metafleet.db.repositories.sweep_queue import SweepQueue
from metafleet.db.repositories.sweeps import SweepRepository

RUN_ROWS: Final[tuple[type[RunRows[Any]], ...]] = (
    OuterStepRepository,
    JobRepository,
    AttemptRepository,
    AttemptCountRepository,
    AttemptLogRepository,
    EvaluationRepository,
    EpisodeResultsRepository,
    InnerCurveRepository,
    InnerRatesRepository,
    CheckpointRepository,
)
"""The repositories of a run's rows, in the order in which they are written."""

__all__ = [
    "RUN_ROWS",
    "AttemptCountRepository",
    "AttemptLogRepository",
    "AttemptRepository",
    "CheckpointRepository",
    "DescriptionRepository",
    "EpisodeResultsRepository",
    "EvaluationRepository",
    "ExperimentRepository",
    "InnerCurveRepository",
    "InnerRatesRepository",
    "JobRepository",
    "OuterStepRepository",
    "RunNotes",
    "RunQueue",
    "RunRepository",
    "RunRows",
    "ServerRepository",
    "SweepQueue",
    "SweepRepository",
]
