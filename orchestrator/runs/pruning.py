"""Deletes old checkpoints and job rows of runs that have ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import CHECKPOINTS, RunRecord
from metafleet.db.repositories.checkpoints import CheckpointRepository
from metafleet.db.repositories.pruning import count_job_rows, delete_job_rows
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import CheckpointError, MetafleetError, RunLeasedError
from metafleet.orchestrator.runs.run_lock import run_lock

_CHECKPOINTS: Final = "step-*.safetensors"
_LEFT_OVER: Final = "set-aside-*"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is deleted.

    Attributes:
        keep_last: number of newest intact checkpoints of each run that are kept, >= 0. The newest
            also contains the state of the best validation.
        keep_best: whether to keep the newest checkpoint of runs with validations in any case.
        older_than: only runs that ended longer ago than this; None for all.
        job_rows: whether to delete the rows of jobs and attempts too.
    """

    keep_last: int = 1
    keep_best: bool = False
    older_than: timedelta | None = None
    job_rows: bool = False


@dataclass(frozen=True, slots=True)
class Prunable:
    """What would be deleted of one run.

    Attributes:
        run: the run.
        files: checkpoints and set-aside checkpoints, with their sizes in bytes.
        n_rows: number of rows of jobs and attempts.
        problem: why nothing of the run is deleted; "" if it can be.
    """

    run: RunRecord
    files: tuple[tuple[Path, int], ...] = ()
    n_rows: int = 0
    problem: str = ""

    @property
    def n_bytes(self) -> int:
        """Total size of the files."""
        return sum(size for _, size in self.files)


@dataclass(slots=True)
class Freed:
    """What has been deleted so far."""

    n_files: int = 0
    n_bytes: int = 0
    n_rows: int = 0


def find_prunable(
    database: Database, settings: Settings, runs: Sequence[RunRecord], policy: Policy
) -> list[Prunable]:
    """Return what the policy would delete of each run, without deleting it.

    Runs of which nothing would be deleted are left out.
    """
    found = []
    for run in runs:
        if not run.status.is_final:
            found.append(Prunable(run, problem=f"it is {run.status}"))
            continue
        files, problem = _files_of(settings, run, policy)
        with database.session(read_only=True) as session:
            n_rows = count_job_rows(session, run.id) if policy.job_rows else 0
        if files or n_rows or problem:
            found.append(Prunable(run, files, n_rows, problem))
    return found


def has_aged(run: RunRecord, policy: Policy, now: datetime) -> bool:
    """Return whether a run ended long enough ago. A run that has not ended never has."""
    if policy.older_than is None:
        return True
    return run.finished_at is not None and now - run.finished_at > policy.older_than


def prune(
    database: Database,
    settings: Settings,
    found: Sequence[Prunable],
    policy: Policy,
    *,
    freed: Freed,
    notify: Callable[[str], None],
) -> None:
    """Delete what ``find_prunable`` found. Count in ``freed`` what is deleted, while it is deleted.

    Each file and each batch of rows is deleted by itself, so that an interruption leaves the rest
    as it was. Runs that were resumed since are skipped.
    """
    for each in found:
        if each.problem:
            continue
        try:
            with run_lock(settings, each.run, is_granted=False):
                _prune_run(database, settings, each, policy, freed)
        except RunLeasedError:
            notify(f"run {each.run.id} is skipped: a process of this host executes it")
        except (MetafleetError, OSError) as error:
            notify(f"run {each.run.id} is skipped: {error}")


def _prune_run(
    database: Database, settings: Settings, each: Prunable, policy: Policy, freed: Freed
) -> None:
    with database.session(read_only=True) as session:
        run = RunRepository(session).find(each.run.uid)
    if run is None or not run.status.is_final or run.epoch != each.run.epoch:
        raise CheckpointError("it was resumed or deleted meanwhile")
    files, _ = _files_of(settings, run, policy)
    for path, size in files:
        path.unlink(missing_ok=True)
        freed.n_files += 1
        freed.n_bytes += size
    if files:
        with database.session() as session:
            _forget_checkpoints(session, run, {str(path) for path, _ in files})
    while policy.job_rows:
        with database.session() as session:
            n_deleted = delete_job_rows(session, run.id)
        if not n_deleted:
            return
        freed.n_rows += n_deleted


def _files_of(
    settings: Settings, run: RunRecord, policy: Policy
) -> tuple[tuple[tuple[Path, int], ...], str]:
    """Return the files to delete, and a problem if no file may be deleted."""
    folder = settings.runs_dir / run.uid
    checkpoints = sorted(folder.glob(_CHECKPOINTS), reverse=True)
    left_over = sorted(folder.glob(_LEFT_OVER))
    n_kept = max(policy.keep_last, int(policy.keep_best and _is_validated(run)))
    chosen = checkpoints if n_kept == 0 else []
    if n_kept and len(checkpoints) > n_kept:
        intact = 0
        for index, path in enumerate(checkpoints):
            intact += _is_intact(path)
            if intact == n_kept:
                chosen = checkpoints[index + 1 :]
                break
    if n_kept and left_over and not any(map(_is_intact, checkpoints[:1])):
        left_over = []  # a run begun again may need them until it has a checkpoint of its own
    sized = []
    for path in (*chosen, *left_over):
        try:
            sized.append((path, path.stat().st_size))
        except FileNotFoundError:
            continue
        except OSError as error:
            return (), f"{path} cannot be read ({error.strerror})"
    return tuple(sized), ""


def _is_validated(run: RunRecord) -> bool:
    return bool(run.config.get("validation", {}).get("every"))


def _is_intact(path: Path) -> bool:
    # imported here: it imports torch, and most runs have nothing to delete
    from metafleet.orchestrator.training.checkpoint import read_checkpoint  # noqa: PLC0415

    try:
        read_checkpoint(path)
    except CheckpointError:
        return False
    return True


def _forget_checkpoints(session: Connection, run: RunRecord, paths: set[str]) -> None:
    """Delete the rows of deleted checkpoints, except the newest row of the run.

    The newest row stays so that a resumed run cannot begin at step 0 by mistake.
    """
    newest = CheckpointRepository(session).find_last(run.id)
    steps = [
        {"deleted": step}
        for step, path in session.execute(
            select(CHECKPOINTS.c.step, CHECKPOINTS.c.path).where(CHECKPOINTS.c.run_id == run.id)
        )
        if path in paths and (newest is None or step != newest.step)
    ]
    if steps:  # one statement for each, because the number of parameters is limited
        of_run = CHECKPOINTS.c.run_id == run.id
        statement = delete(CHECKPOINTS).where(of_run, CHECKPOINTS.c.step == bindparam("deleted"))
        session.execute(statement, steps)
