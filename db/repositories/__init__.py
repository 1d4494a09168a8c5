"""Repositories: one noun each, over one session; they flush, the caller commits."""

from metafleet.db.repositories.attempts import AttemptCountRepository, AttemptRepository
from metafleet.db.repositories.checkpoints import CheckpointRepository
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.experiments import ExperimentRepository
from metafleet.db.repositories.jobs import JobRepository
from metafleet.db.repositories.outer_steps import OuterStepRepository
from metafleet.db.repositories.run_queue import RunQueue
from metafleet.db.repositories.runs import RunRepository
from metafleet.db.repositories.servers import ServerRepository

__all__ = [
    "AttemptCountRepository",
    "AttemptRepository",
    "CheckpointRepository",
    "EvaluationRepository",
    "ExperimentRepository",
    "JobRepository",
    "OuterStepRepository",
    "RunQueue",
    "RunRepository",
    "ServerRepository",
]
