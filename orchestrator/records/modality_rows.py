"""The rows of a table of evaluations with only some of the modalities."""

import re
from collections.abc import Sequence
from typing import Any, Final

from metafleet.db.records import EvaluationRecord
from metafleet.db.repositories.evaluations import TRAINED

_LABEL: Final = re.compile(
    rf"{TRAINED}(?P<others>(?:, .*)?), modalities=(?P<shown>[^,~]+)(?P<rest>.*)"
)
_FIELDS: Final = (*("split", "step", "episodes", "accuracy", "accuracy_ci95", "loss", "loss_ci95"),)

MODALITY_COLUMNS: Final = ("shown", "missing", *_FIELDS)


def modality_rows(evaluations: Sequence[EvaluationRecord]) -> list[dict[str, Any]]:
    """Return a row for each evaluation of the trained state with some modalities, and with all.

    An evaluation with all modalities is included only if there is one with some modalities on the
    same split, of the same state, and with the same number of episodes and other changes.
    """
    partial: dict[tuple[Any, ...], dict[tuple[str, ...], EvaluationRecord]] = {}
    for evaluation in evaluations:
        if found := _LABEL.fullmatch(evaluation.label):
            usual = TRAINED + found["others"] + found["rest"]
            shown = tuple(found["shown"].split("+"))
            partial.setdefault(_place(evaluation, usual), {})[shown] = evaluation
    whole = {_place(evaluation, evaluation.label): evaluation for evaluation in evaluations}
    rows = []
    for place, by_shown in partial.items():
        known = sorted({name for shown in by_shown for name in shown})
        found_all = {tuple(known): whole[place]} if place in whole else {}
        for shown, evaluation in (found_all | by_shown).items():
            missing = [name for name in known if name not in shown]
            of_row = {name: getattr(evaluation, name) for name in _FIELDS}
            rows.append({"shown": "+".join(shown), "missing": "+".join(missing)} | of_row)
    return rows


def _place(evaluation: EvaluationRecord, label: str) -> tuple[Any, ...]:
    return evaluation.split, evaluation.step, evaluation.episodes, label
