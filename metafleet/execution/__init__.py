"""Compute meta-gradients: several strategies to execute the episodes of a learner."""

from metafleet.execution.base import Execution
from metafleet.execution.making import check_mapped, make_execution
from metafleet.execution.strategy import PRECISIONS, STRATEGIES, Strategy

__all__ = [
    "PRECISIONS",
    "STRATEGIES",
    "Execution",
    "Strategy",
    "check_mapped",
    "make_execution",
]
