"""Words about runs that several commands show."""

from metafleet.db.records import RunRecord, RunStatus

STATUS_STYLES = {
    RunStatus.FINISHED: "green",
    RunStatus.FAILED: "red",
    RunStatus.INTERRUPTED: "yellow",
    RunStatus.CANCELLED: "yellow",
    RunStatus.RUNNING: "cyan",
    RunStatus.QUEUED: "blue",
}


def owner_of(run: RunRecord) -> str | None:
    """Return the run's owner as host:pid, without the suffix that makes it unique."""
    return run.owner.split("/")[0] if run.owner else None
