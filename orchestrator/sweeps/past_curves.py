"""The curves of past runs, by which `--prune history` judges trials."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from metafleet.db.records import EvaluationRecord, RunStatus, SweepRecord
from metafleet.db.repositories import EvaluationRepository, RunRepository
from metafleet.describing.distance import Scale
from metafleet.orchestrator.advice.descriptions import stored_descriptions
from metafleet.orchestrator.advice.past_runs import episodes_key, validated_on
from metafleet.orchestrator.records.score import score_of
from metafleet.orchestrator.sweeps.history import PastCurve
from metafleet.splits import META_VAL

_NEAREST: Final = 5
"""Past data sets of this number are used: the nearest ones, if their descriptions are known."""
_LEAST_LOSS: Final = 1e-12


def read_past_curves(
    session: Connection, sweep: SweepRecord, own: Collection[int]
) -> list[list[PastCurve]]:
    """Return the curves of finished runs, in a list for each data set and shape of episodes.

    Only data of the same kind, classification or regression, count; and of data sets with
    descriptions only the nearest ones.

    Args:
        session: the caller's transaction.
        sweep: the sweep whose trials are judged.
        own: ids of the sweep's runs, which are left out.
    """
    runs = [
        run
        for run in RunRepository(session).list(limit=None, status=RunStatus.FINISHED)
        if run.id not in own and _is_regression(run.config) == _is_regression(sweep.config)
    ]
    curves = EvaluationRepository(session).list_curves([run.id for run in runs], split=META_VAL)
    groups: dict[tuple[str, str], list[PastCurve]] = {}
    for run in runs:
        found = curve_of(run.config, curves.get(run.id, ()))
        if found.scores:
            groups.setdefault((run.data_digest, episodes_key(run.config)), []).append(found)
    near = _nearest(session, sweep, own, sorted({digest for digest, _ in groups}))
    return [groups[key] for key in sorted(groups) if key[0] in near]


def curve_of(config: Mapping[str, Any], evaluations: Sequence[EvaluationRecord]) -> PastCurve:
    """Return the curve of a run with a configuration."""
    return curve_of_scores(config, {each.step: score_of(each) for each in evaluations})


def curve_of_scores(config: Mapping[str, Any], by_step: Mapping[int, float]) -> PastCurve:
    """Return the curve of scores: accuracies above chance, or the inverse of losses.

    Args:
        config: the configuration.
        by_step: outer step -> accuracy in [0, 1], or minus a loss.
    """
    n_way, n_steps = validated_on(config)["n_way"], config["outer"]["steps"]
    chance = 1 / n_way if n_way else 0.0
    return PastCurve(
        {
            step / n_steps: max(score - chance, 0.0) if n_way else 1 / max(-score, _LEAST_LOSS)
            for step, score in by_step.items()
        }
    )


def _is_regression(config: Mapping[str, Any]) -> bool:
    return bool(validated_on(config)["n_way"] == 0)


def _nearest(
    session: Connection, sweep: SweepRecord, own: Collection[int], digests: Sequence[str]
) -> set[str]:
    """Return the digests of the nearest data sets; all if the sweep's data are not described."""
    known = stored_descriptions(session)
    target = next((RunRepository(session).get(run_id).data_digest for run_id in sorted(own)), "")
    described = [digest for digest in digests if digest in known]
    if target not in known or not described:
        return set(digests)
    scale = Scale.of(list(known.values()))
    described.sort(key=lambda digest: (scale.distance(known[target], known[digest]), digest))
    return set(described[:_NEAREST])
