"""Whether other executions of the same computation gave the same bits."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from metafleet.db.records import CHECKPOINTS, RUNS, RunRecord
from metafleet.db.repositories.runs import RunRepository


@dataclass(frozen=True, slots=True)
class Twin:
    """Another run of the same configuration, seed, data, code and numerics.

    Attributes:
        run: the other run.
        equal_at: the last step at which both runs have the same checkpoint; None if there is none.
        differs_at: the first step at which their checkpoints differ; None if there is none.
    """

    run: RunRecord
    equal_at: int | None
    differs_at: int | None


def find_twins(session: Connection, run: RunRecord) -> list[Twin]:
    """Return the other runs that must have the same bits, newest first.

    The configurations are compared without the name of the experiment. Twins whose checkpoints are
    at other steps have neither an equal nor a different step.
    """
    query = select(RUNS.c.id).where(
        RUNS.c.id != run.id,
        RUNS.c.experiment_id == run.experiment_id,
        RUNS.c.seed == run.seed,
        RUNS.c.code_version == run.code_version,
        RUNS.c.data_digest == run.data_digest,
    )
    ids = list(session.scalars(query.order_by(RUNS.c.id.desc())))
    others = [RunRepository(session).get(one) for one in ids]
    twins = [one for one in others if _identity(one) == _identity(run)]
    digests = _digests(session, [run.id, *(one.id for one in twins)]) if twins else {}
    return [_compared(one, digests.get(run.id, {}), digests.get(one.id, {})) for one in twins]


def _identity(run: RunRecord) -> tuple[object, ...]:
    config = {key: value for key, value in run.config.items() if key != "name"}
    return config, dict(run.fingerprint), run.encoders, run.user_code


def _digests(session: Connection, run_ids: list[int]) -> dict[int, dict[int, str]]:
    columns = CHECKPOINTS.c
    query = select(columns.run_id, columns.step, columns.sha256).where(columns.run_id.in_(run_ids))
    found: dict[int, dict[int, str]] = {}
    for run_id, step, sha256 in session.execute(query):
        found.setdefault(run_id, {})[step] = sha256
    return found


def _compared(other: RunRecord, ours: Mapping[int, str], theirs: Mapping[int, str]) -> Twin:
    common = sorted(ours.keys() & theirs.keys())
    differs_at = next((step for step in common if ours[step] != theirs[step]), None)
    equal = [step for step in common if ours[step] == theirs[step]]
    return Twin(other, max(equal, default=None), differs_at)
