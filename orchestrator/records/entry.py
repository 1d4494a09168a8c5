"""A run with its results and tags, and the values of its keys."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from metafleet.db.records import EvaluationRecord, RunRecord, RunStatus
from metafleet.orchestrator.records.literals import parse_number
from metafleet.orchestrator.records.moments import EXPECTED, parse_moments

RESULTS: Final = ("best", "last", "test")
"""Results of a run: its best and last meta-validation, and its meta-test."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run with its results and tags.

    Attributes:
        run: the run.
        results: name of a result (one of ``RESULTS``) -> evaluation. A result without an evaluation
            is left out.
        tags: the run's tags.
    """

    run: RunRecord
    results: Mapping[str, EvaluationRecord] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    def value(self, key: str) -> Any:
        """Return the run's value for a key; None if there is no value, or if the value is NaN.

        If a field or result has the same name as a key of the configuration, the field or result
        counts.
        """
        found = self._find(key)
        return None if isinstance(found, float) and math.isnan(found) else found

    def is_share(self, result: str) -> bool:
        """Return whether a result is a score in [0, 1], not a loss."""
        found = self.results.get(result)
        return found is not None and found.accuracy is not None

    def _find(self, key: str) -> Any:
        if key in FIELDS:
            return FIELDS[key].read(self)
        name, _, figure = key.partition(".")
        if name in RESULTS and figure in FIGURES:
            result = self.results.get(name)
            return None if result is None else FIGURES[figure](result)
        return find_in(self.run.config, key)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of every run.

    Attributes:
        read: returns the value of the field for a run.
        expected: what a filter may compare the field with, for messages; "" for any text.
        accepts: whether a filter may compare the field with a text.
    """

    read: Callable[[Entry], Any]
    expected: str = ""
    accepts: Callable[[str], bool] = bool


def _number(read: Callable[[Entry], Any]) -> Field:
    return Field(read, "a number", lambda text: parse_number(text) is not None)


def _time(read: Callable[[Entry], Any]) -> Field:
    return Field(read, EXPECTED, lambda text: parse_moments(text) is not None)


def _truth(read: Callable[[Entry], Any]) -> Field:
    return Field(read, "true or false", lambda text: text.casefold() in ("true", "false"))


def _text(read: Callable[[Entry], Any]) -> Field:
    return Field(lambda entry: read(entry) or None, accepts=lambda text: True)


FIELDS: Final[Mapping[str, Field]] = {
    "id": _number(lambda entry: entry.run.id),
    "uid": _text(lambda entry: entry.run.uid),
    "name": _text(lambda entry: entry.run.name),
    "experiment": _text(lambda entry: entry.run.experiment),
    "seed": _number(lambda entry: entry.run.seed),
    "status": Field(
        lambda entry: entry.run.status.value,
        f"one of {', '.join(RunStatus)}",
        lambda text: text in list(RunStatus),
    ),
    "steps": _number(lambda entry: entry.run.steps_done),
    "created": _time(lambda entry: entry.run.created_at),
    "started": _time(lambda entry: entry.run.started_at),
    "finished": _time(lambda entry: entry.run.finished_at),
    "host": _text(lambda entry: entry.run.host),
    "owner": _text(lambda entry: entry.run.owner),
    "code": _text(lambda entry: entry.run.code_version),
    "data": _text(lambda entry: entry.run.data_digest),
    "checkpoint": _text(lambda entry: entry.run.checkpoint_sha256),
    "error": _text(lambda entry: entry.run.error),
    "priority": _number(lambda entry: entry.run.priority),
    "detached": _truth(lambda entry: entry.run.detached),
    "parent": _text(lambda entry: entry.run.parent_uid),
    "note": _text(lambda entry: entry.run.note),
    "tags": Field(lambda entry: list(entry.tags), accepts=lambda text: True),
    "archived": _truth(lambda entry: entry.run.archived),
}
FIGURES: Final[Mapping[str, Callable[[EvaluationRecord], Any]]] = {
    "": lambda e: e.loss if e.accuracy is None else e.accuracy,
    "ci95": lambda e: e.loss_ci95 if e.accuracy is None else e.accuracy_ci95,
    "loss": lambda e: e.loss,
    "loss_ci95": lambda e: e.loss_ci95,
    "step": lambda e: e.step,
}
"""Figures of a result: ``best`` is the score, or the loss in regression; ``best.step`` ..."""
RESULT_KEYS: Final = tuple(
    name + (f".{figure}" if figure else "") for name in RESULTS for figure in FIGURES
)


def find_in(tree: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key of nested tables; None if there is none."""
    if key in tree:
        return tree[key]
    for place, letter in enumerate(key):
        inner = tree.get(key[:place]) if letter == "." else None
        if isinstance(inner, Mapping):
            found = find_in(inner, key[place + 1 :])
            if found is not None:
                return found
    return None


def keys_of(tree: Mapping[str, Any], above: str = "") -> set[str]:
    """Return the dotted keys of nested tables, including those of the tables."""
    found = set()
    for name, value in tree.items():
        found.add(f"{above}{name}")
        if isinstance(value, Mapping):
            found |= keys_of(value, f"{above}{name}.")
    return found
