"""Keeps the timelines of the runs that people look at, and reads only what is new."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from metafleet.db.records import RunRecord
from metafleet.orchestrator.records.timeline import read_timeline
from metafleet.orchestrator.records.timeline_view import TimelineView

_MOST_RUNS: Final = 4


@dataclass(frozen=True, slots=True)
class _Known:
    view: TimelineView
    epoch: int
    is_final: bool


class Timelines:
    """The timelines that were asked for last."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._guard = threading.Lock()  # two requests for a long run read it once

    def get(self, session: Connection, run: RunRecord) -> TimelineView:
        """Return the timeline of a run."""
        with self._guard:
            known = self._known.get(run.uid)
            if known is None or known.epoch != run.epoch:
                view = TimelineView(read_timeline(session, run.id))
            elif known.is_final and run.status.is_final:
                view = known.view
            else:
                view = TimelineView(read_timeline(session, run.id, known.view.timeline))
            self._known[run.uid] = _Known(view, run.epoch, run.status.is_final)
            self._known.move_to_end(run.uid)
            while len(self._known) > _MOST_RUNS:
                self._known.popitem(last=False)
            return view
