"""The page of a run's test episodes: how they are distributed, and each one drawn again."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.data.scoring import score_name
from metafleet.db.records import EpisodeResultsRecord, RunRecord
from metafleet.db.repositories.episode_results import EpisodeResultsRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError, DrawingError
from metafleet.orchestrator.dashboard.pages.function_plot import plot_function
from metafleet.orchestrator.dashboard.site import site_of
from metafleet.orchestrator.dashboard.view_state import whole
from metafleet.orchestrator.redraw.drawer import Drawer, EvaluationKey
from metafleet.orchestrator.redraw.drawn import DrawnEpisode
from metafleet.orchestrator.redraw.evaluated import pick, worst_first
from metafleet.orchestrator.redraw.views import Budget, items_of, value_rows
from metafleet.orchestrator.reporting.figures import contender

_PER_PAGE: Final = 12
_BINS: Final = 25
_MOST_SUPPORT: Final = 100
_MOST_QUERIES: Final = 200
_MOST_BYTES: Final = 8_000_000
_MOST_CLASSES: Final = 30


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the histogram: results from ``low`` to ``high``, and how many episodes have them."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class EpisodesPage:
    """What the page shows.

    Attributes:
        run: the run.
        records: the evaluations that one can choose.
        chosen: number of the chosen evaluation among ``records``.
        is_share: whether results are scores.
        order: numbers of the episodes, the worst first.
    """

    run: RunRecord
    records: Sequence[EpisodeResultsRecord]
    chosen: int
    is_share: bool
    order: Sequence[int]

    @classmethod
    def read(cls, session: Connection, ref: str, number: int | None) -> "EpisodesPage":
        """Read the evaluations of a run. By default, the one of the trained state is chosen."""
        run = RunRepository(session).get(ref)
        records = EpisodeResultsRepository(session).list(run.id)
        if not records:
            return cls(run, records, 0, False, ())
        chosen = records.index(pick(records)) if number is None else min(number, len(records) - 1)
        record = records[chosen]
        return cls(run, records, chosen, record.accuracies is not None, worst_first(record))

    @property
    def record(self) -> EpisodeResultsRecord:
        """The chosen evaluation."""
        return self.records[self.chosen]

    @property
    def key(self) -> EvaluationKey:
        """The name of the chosen evaluation."""
        return EvaluationKey.of(self.run, self.record)

    def value(self, index: int) -> float:
        """Return the score or the loss of an episode."""
        scores = self.record.accuracies
        return scores[index] if scores else self.record.losses[index]

    def bars(self) -> list[Bar]:
        """Return the histogram of the results; values that are not finite are left out."""
        values = [v for v in map(self.value, range(len(self.record.losses))) if math.isfinite(v)]
        if not values:
            return []
        low, n_bins, width = _bins(values)
        counts = [0] * n_bins
        for value in values:
            counts[min(n_bins - 1, int((value - low) / width))] += 1
        return [Bar(low + i * width, low + (i + 1) * width, n) for i, n in enumerate(counts)]


def _bins(values: Sequence[float]) -> tuple[float, int, float]:
    """Return the beginning, the number and the width of bins.

    Accuracies are multiples of a share. If there are few of them, each is in the middle of a bin,
    because other bins would be empty or have two of them.
    """
    distinct = sorted(set(values))
    steps = [b - a for a, b in itertools.pairwise(distinct)]
    step = min(steps, default=0.0)
    span = distinct[-1] - distinct[0]
    if not span:
        return distinct[0] - 0.5, 1, 1.0
    n_steps = round(span / step) + 1
    if n_steps <= _BINS:
        return distinct[0] - step / 2, n_steps, span / (n_steps - 1)
    return distinct[0], _BINS, span / _BINS


def show_episodes(request: Request) -> Response:
    """Show the episodes of an evaluation, the worst first, and one of them."""
    found = _read(request)
    if not found.records:
        return site_of(request).page(request, "episodes.html", found=found, run=found.run)
    n = len(found.order)
    page = whole(request.query_params, "page", otherwise=1, least=1, most=-(-n // _PER_PAGE))
    index = whole(request.query_params, "episode", otherwise=found.order[0], least=0, most=n - 1)
    place = found.order.index(index)
    bars = found.bars()
    return site_of(request).page(
        request,
        "episodes.html",
        found=found,
        run=found.run,
        score=score_name(found.run.config.get("data", {})) if found.is_share else "loss",
        bars=bars,
        highest=max((bar.count for bar in bars), default=1),
        shown=found.order[(page - 1) * _PER_PAGE : page * _PER_PAGE],
        first=(page - 1) * _PER_PAGE + 1,
        page=page,
        n_pages=-(-n // _PER_PAGE),
        index=index,
        place=place,
        worse=found.order[place - 1] if place else None,
        better=found.order[place + 1] if place + 1 < n else None,
        contender=contender,
    )


def show_drawn(request: Request) -> Response:
    """Return an episode that was drawn again, as a part of the page."""
    found, index = _read(request), request.path_params["index"]
    values: dict[str, Any] = {}
    try:
        episode = _draw(request, found, index)
    except DrawingError as error:
        values["problem"] = str(error)
    else:
        budget = Budget(_MOST_BYTES, has_sounds_apart=True)
        values = {
            "problem": "",
            "episode": episode,
            "items": items_of(
                episode, budget, most_support=_MOST_SUPPORT, most_queries=_MOST_QUERIES
            ),
            "plot": None if episode.classes else plot_function(episode),
            "rows": () if episode.classes else value_rows(episode, _MOST_QUERIES),
            "score": score_name(found.run.config.get("data", {})),
            "sound": f"/runs/{found.run.id}/episodes/{index}/sound/",
            "number": found.chosen,
        }
    return site_of(request).page(request, "episode_drawn.html", run=found.run, **values)


def play_sound(request: Request) -> Response:
    """Return the sound of an item of a drawn episode as a WAV file."""
    found, names = _read(request), request.path_params
    episode = _draw(request, found, names["index"])
    items = episode.support if names["part"] == "support" else episode.query
    shown = (
        items[names["item"]].shown.get(names["modality"]) if names["item"] < len(items) else None
    )
    if shown is None or not shown.sound:
        raise ConfigError("there is no such sound")
    return Response(shown.sound, media_type="audio/wav")


def show_classes(request: Request) -> Response:
    """Return the hardest classes and the confused ones, as far as they are counted."""
    found = _read(request)
    counting = _drawer(request).count(found.key)
    confusion = counting.confusion
    return site_of(request).page(
        request,
        "episode_classes.html",
        counting=counting,
        classes=confusion.classes()[:_MOST_CLASSES],
        pairs=confusion.pairs()[:_MOST_CLASSES],
        n_classes=len(confusion.classes()),
    )


def _read(request: Request) -> EpisodesPage:
    number = whole(request.query_params, "evaluation", otherwise=-1, least=0, most=10_000)
    with site_of(request).read() as session:
        return EpisodesPage.read(
            session, request.path_params["ref"], None if number < 0 else number
        )


def _draw(request: Request, found: EpisodesPage, index: int) -> DrawnEpisode:
    if not found.records:
        raise DrawingError("no evaluation of this run kept the results of single episodes")
    return DrawnEpisode.from_json(_drawer(request).draw(found.key, index))


def _drawer(request: Request) -> Drawer:
    return cast(Drawer, request.app.state.drawer)


ROUTES: Final = (
    Route("/runs/{ref}/episodes", show_episodes),
    Route("/runs/{ref}/episodes/{index:int}/drawn", show_drawn),
    Route("/runs/{ref}/episodes/{index:int}/sound/{part}/{item:int}/{modality}.wav", play_sound),
    Route("/runs/{ref}/classes", show_classes),
)
