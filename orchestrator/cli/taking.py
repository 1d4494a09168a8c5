"""Reads the learned state of a run, for commands that need no fleet."""

from metafleet.contracts.settings import Settings
from metafleet.db.records import RunRecord
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import RunNotFoundError
from metafleet.inference.learned_model import LearnedModel
from metafleet.orchestrator.cli.context import open_records
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.runs.learned_run import learned_by


def take_learned(settings: Settings, ref: str) -> tuple[LearnedModel, RunRecord]:
    """Return the learned state of the run ``ref`` (an id, uid, name or "latest"), and the run.

    Raises:
        RunNotFoundError: there is no run ``ref``. The message adds that there is no model ``ref``.
        CheckpointError: the run has no readable checkpoint.
    """
    run = get_run_for(settings, ref)
    with (
        open_records(settings, run.uid) as database,
        database.session(read_only=True) as session,
    ):
        evaluations = EvaluationRepository(session).list(run.id)
    return learned_by(settings, run, evaluations, notify), run


def get_run_for(settings: Settings, ref: str) -> RunRecord:
    """Return the run that a RUN|MODEL argument names, if the argument is not a model's folder.

    Raises:
        RunNotFoundError: there is no such run.
    """
    try:
        with open_records(settings, ref) as database, database.session(read_only=True) as session:
            return RunRepository(session).get(ref)
    except RunNotFoundError as error:
        raise RunNotFoundError(f"there is no model at {ref}, and {error}") from error
