"""A process that draws episodes for the dashboard.

The process reads one JSON request a line from standard input, and writes one JSON answer a line to
standard output. It ends at the end of its input. Torch is imported here and not in the server, and
the server stays responsive while an episode is computed.
"""

import json
import os
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, TextIO

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.repositories.episode_results import EpisodeResultsRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError, MetafleetError
from metafleet.orchestrator.redraw.counting import count_confusion
from metafleet.orchestrator.redraw.redraw import Redraw

_MOST_OPEN: Final = 2
"""Number of evaluations that are kept open."""
_NICENESS: Final = 10


class _Drawing:
    """Answers requests; keeps the evaluations open that were asked for last."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._open: OrderedDict[tuple[Any, ...], Redraw] = OrderedDict()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the episode ``index``, or count the predictions of ``n`` episodes from ``first``."""
        redraw = self._find(request)
        if "index" in request:
            return {"drawn": redraw.draw(request["index"]).to_json()}
        first = request["first"]
        end = min(first + request["n"], len(redraw.record.losses))
        found = count_confusion(redraw, numbers=range(first, end))
        return {"counts": found and found.to_json()}

    def _find(self, request: Mapping[str, Any]) -> Redraw:
        names = ("run", "split", "label", "step", "episodes")
        key = tuple(request[name] for name in names)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        with self._database.session(read_only=True) as session:
            run = RunRepository(session).get(request["run"])
            found = [
                record
                for record in EpisodeResultsRepository(session).list(
                    run.id, split=request["split"], label=request["label"]
                )
                if (record.step, record.episodes) == (request["step"], request["episodes"])
            ]
        if not found:
            raise ConfigError(f"run {run.id} has no such evaluation any more; reload the page")
        redraw = Redraw.open(self._settings, run, found[0], lambda text: None)
        self._open[key] = redraw
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return redraw


def main() -> None:
    """Answer requests until standard input ends."""
    import torch  # noqa: PLC0415 - imported by what is above, named only here

    os.nice(_NICENESS)
    torch.set_num_threads(1)
    answers = _take_output()
    settings = Settings.load()
    with Database.open(settings.database_url) as database:
        drawing = _Drawing(database, settings)
        for line in sys.stdin:
            try:
                found = drawing.answer(json.loads(line))
            except MetafleetError as error:
                found = {"problem": str(error)}
            except Exception as error:  # the next request may succeed
                found = {"problem": f"{type(error).__name__}: {error!s:.200}".replace("\n", " ")}
            answers.write(json.dumps(found) + "\n")
            answers.flush()


def _take_output() -> TextIO:
    """Return standard output for answers alone; what libraries print goes to standard error."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


if __name__ == "__main__":
    main()
