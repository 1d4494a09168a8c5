"""Sends a run's records to sinks while the run is executed."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from metafleet.db.engine import Database
from metafleet.orchestrator.tracking.source import RunSource
from metafleet.tracking.live import tracked
from metafleet.tracking.targets import KINDS, shown_target


def tracked_run(
    database: Database, uid: str, targets: Sequence[Any], notify: Callable[[str], None]
) -> AbstractContextManager[None]:
    """Send a run's rows to each target during the block, as ``metafleet.tracking.live`` does.

    Raises:
        ConfigError: as for ``tracked``.
    """
    return tracked(partial(RunSource, database, uid), targets, notify, advice=partial(_advice, uid))


def _advice(uid: str, target: Any) -> str:
    kind, _, place = shown_target(target).partition(":")
    if kind not in KINDS or not place:
        return "the run goes on"
    return (
        f"the run goes on, and `metafleet runs export {uid} --format {kind} --output {place}` "
        "sends the rest later"
    )
