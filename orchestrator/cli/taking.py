"""Taking what a run has learned, for commands that go on without the fleet."""

from contracts.settings import Settings
from db.repositories.runs import RunRepository
from metafleet.using.learned_model import LearnedModel
from orchestrator.cli.context import open_records
from orchestrator.cli.output import notify
from orchestrator.learned_run import learned_by


def take_learned(settings: Settings, ref: str) -> LearnedModel:
    """Read the learned state of a run: id, uid, name or "latest".

    Raises:
        RunNotFoundError: there is no such run.
        CheckpointError: it has no checkpoint that can be read.
    """
    with open_records(settings, ref) as database, database.session(read_only=True) as session:
        run = RunRepository(session).get(ref)
    return learned_by(settings, run, notify)
