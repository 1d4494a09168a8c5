"""Repositories: one noun each, over one session; they flush, the caller commits."""

from db.repositories.attempts import AttemptCountRepository, AttemptRepository
from db.repositories.checkpoints import CheckpointRepository
from db.repositories.evaluations import EvaluationRepository
from db.repositories.experiments import ExperimentRepository
from db.repositories.jobs import JobRepository
from db.repositories.outer_steps import OuterStepRepository
from db.repositories.run_queue import RunQueue
from db.repositories.runs import RunRepository
from db.repositories.servers import ServerRepository

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
