"""Makes the record that a model keeps of its run: configuration and evaluations."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from metafleet.data.scoring import score_name
from metafleet.db.records import EvaluationRecord
from metafleet.episode import EpisodeShape
from metafleet.inference.model_record import TRAINED, Figure, ModelRecord, Result
from metafleet.orchestrator.config.experiment import ExperimentConfig

_OF_USER = "yours"
"""The licence of a user's own data, as data sets call it."""
_PLACE = re.compile(r"\A((?:\w+:)?)(/.+)\Z")
"""A path, or an encoder such as "timm:/models/dinov2-small"."""
_NEXT_KEY = re.compile(r", (?=[\w.]+=)")
_CUT = re.compile(r"~[0-9a-f]{8}\Z")
_SIZE = re.compile(r"(?:\w+\.)?(n_way|k_shot|n_query)=(\d+)")


def record_of(
    config: ExperimentConfig,
    evaluations: Iterable[EvaluationRecord],
    *,
    step: int,
    data_licence: str,
) -> ModelRecord:
    """Return the record of training and evaluation that a model's card shows.

    Args:
        config: configuration of the run.
        evaluations: all evaluations of the run.
        step: number of outer steps after which the run had the model's state.
        data_licence: licence of the run's data.
    """
    results = (_result(config, row) for row in _of_state(evaluations, step))
    return ModelRecord(
        results=tuple(result for result in results if _is_finite(result)),
        config=_repeatable(config.to_json()),
        data_licence="" if data_licence == _OF_USER else data_licence,
    )


def _of_state(evaluations: Iterable[EvaluationRecord], step: int) -> Sequence[EvaluationRecord]:
    """Return the evaluations of a state and of baselines; if repeated, those on most episodes."""
    found: dict[tuple[str, str], EvaluationRecord] = {}
    for row in evaluations:
        if row.label.partition(", ")[0] == TRAINED and row.step != step:
            continue
        if _CUT.search(row.label):  # it no longer says which episodes these were
            continue
        known = found.get((row.split, row.label))
        if known is None or known.episodes <= row.episodes:
            found[row.split, row.label] = row
    return list(found.values())


def _result(config: ExperimentConfig, row: EvaluationRecord) -> Result:
    judged, *otherwise = _NEXT_KEY.split(row.label)
    shape = _with_sizes(config.episodes.shape(row.split), otherwise)
    figures = [Figure("loss", row.loss, row.loss_ci95)]
    if row.accuracy is not None and row.accuracy_ci95 is not None:
        figures.insert(0, Figure(score_name(config.data), row.accuracy, row.accuracy_ci95))
    return Result(
        split=row.split,
        judged=judged,
        step=row.step,
        episodes=row.episodes,
        n_way=shape.n_way,
        k_shot=shape.k_shot,
        n_query=shape.n_query,
        figures=tuple(figures),
        otherwise=tuple(otherwise),
        batch_norm=row.batch_norm,
    )


def _with_sizes(shape: EpisodeShape, otherwise: Sequence[str]) -> EpisodeShape:
    found = {it[1]: int(it[2]) for key in otherwise if (it := _SIZE.fullmatch(key))}
    return replace(
        shape,
        n_way=found.get("n_way", shape.n_way),
        k_shot=found.get("k_shot", shape.k_shot),
        n_query=found.get("n_query", shape.n_query),
    )


def _is_finite(result: Result) -> bool:
    return all(math.isfinite(f.value) and math.isfinite(f.ci95) for f in result.figures)


def _repeatable(value: Any) -> Any:
    """Return a run's configuration in a form that other users can submit.

    For a data folder, a run records both the key ``path`` and the key ``imported`` (the name that
    `data import` gave the folder). A submitted configuration must not contain both keys, so
    ``imported`` is dropped. An absolute path is replaced by "~/" and the last part of the path. So
    a published model does not reveal the author's folders.
    """
    if isinstance(value, Mapping):
        is_twofold = bool(value.get("path")) and "imported" in value
        kept = {k: v for k, v in value.items() if not (is_twofold and k == "imported")}
        return {key: _repeatable(item) for key, item in kept.items()}
    if isinstance(value, list | tuple):
        return [_repeatable(item) for item in value]
    if not isinstance(value, str):
        return value
    return _PLACE.sub(lambda found: f"{found[1]}~/{PurePath(found[2]).name}", value)
