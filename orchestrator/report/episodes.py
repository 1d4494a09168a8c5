"""The episodes that a report draws: the worst ones and the best one of each group."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from metafleet.contracts.settings import Settings
from metafleet.data.summary import Progress, no_progress
from metafleet.db.records import EpisodeResultsRecord, RunRecord
from metafleet.errors import MetafleetError
from metafleet.orchestrator.redraw.drawn import DrawnEpisode
from metafleet.orchestrator.redraw.evaluated import worst_first
from metafleet.orchestrator.redraw.views import Budget, EpisodeView, items_of, value_rows
from metafleet.orchestrator.report.charts import Chart
from metafleet.orchestrator.report.facts import GroupFacts
from metafleet.orchestrator.report.figures import function_chart
from metafleet.orchestrator.report.tables import ReportTable

if TYPE_CHECKING:
    from metafleet.orchestrator.redraw.confusion import Confusion

_MOST_QUERIES: Final = 14
_MOST_SUPPORT: Final = 20
_MOST_CLASSES: Final = 12


@dataclass(frozen=True, slots=True)
class DrawnGroup:
    """The episodes of one run of a group.

    Attributes:
        group: the group.
        run: the run.
        record: the evaluation that the episodes are from.
        episodes: the worst episodes, and then the best one.
        confusion: predictions over all episodes; None if they were not asked for.
        problem: why nothing was drawn; "" if something was.
    """

    group: GroupFacts
    run: RunRecord | None = None
    record: EpisodeResultsRecord | None = None
    episodes: tuple[DrawnEpisode, ...] = ()
    confusion: "Confusion | None" = None
    problem: str = ""


def draw_group(  # noqa: PLR0913 - each is a choice of the user
    settings: Settings,
    group: GroupFacts,
    records: Mapping[str, EpisodeResultsRecord],
    *,
    n_worst: int,
    with_confusion: bool,
    notify: Callable[[str], None],
    progress: Progress = no_progress,
) -> DrawnGroup:
    """Draw episodes of a group's first run that has results of single episodes.

    If the data or the checkpoint are not on this machine, the result says so.

    Args:
        settings: locations of data and checkpoints.
        group: the group.
        records: uid of a run -> its results of single episodes.
        n_worst: number of the worst episodes to draw.
        with_confusion: whether to compute all episodes of the evaluation again.
        notify: receives notices.
        progress: receives the progress of ``with_confusion``.
    """
    chosen = [view.run for view in group.views if view.run.uid in records]
    if not chosen:
        return DrawnGroup(group, problem="no evaluation of this group kept the results of episodes")
    run, record = chosen[0], records[chosen[0].uid]
    # imported here: only this needs the learning core
    from metafleet.orchestrator.redraw.counting import count_confusion  # noqa: PLC0415
    from metafleet.orchestrator.redraw.redraw import Redraw  # noqa: PLC0415

    try:
        redraw = Redraw.open(settings, run, record, notify)
        order = worst_first(record)
        numbers = list(dict.fromkeys([*order[:n_worst], *order[-1:]]))
        episodes = tuple(redraw.draw(index) for index in numbers)
        confusion = count_confusion(redraw, progress) if with_confusion else None
    except MetafleetError as error:
        return DrawnGroup(group, run, record, problem=str(error))
    return DrawnGroup(group, run, record, episodes, confusion)


@dataclass(frozen=True, slots=True)
class ReportEpisode:
    """An episode as the page shows it.

    Attributes:
        title, result: texts.
        disagreement: how the result differs from the recorded one; "" if it does not.
        items: the items of an episode of classification.
        chart: the curve of an episode of regression; None if there is none.
        rows: inputs, targets and predictions of an episode of regression.
    """

    title: str
    result: str
    disagreement: str
    items: EpisodeView
    chart: Chart | None
    rows: tuple[tuple[str, ...], ...]


def view_of(
    episode: DrawnEpisode, *, name: str, place: str, result: str, budget: Budget
) -> ReportEpisode:
    """Return an episode in the form of the page."""
    is_regression = not episode.classes
    return ReportEpisode(
        f"Episode {episode.index} ({place})",
        result,
        episode.disagreement,
        items_of(episode, budget, most_support=_MOST_SUPPORT, most_queries=_MOST_QUERIES),
        function_chart(name, episode) if is_regression else None,
        value_rows(episode, _MOST_CLASSES) if is_regression else (),
    )


def class_tables(found: "Confusion", letter: str) -> list[ReportTable]:
    """Return the hardest classes, and the pairs that are confused most often."""
    hardest = [
        (each.name, f"{100 * each.accuracy:.1f} %", str(each.n))
        for each in found.classes()[:_MOST_CLASSES]
    ]
    pairs = [
        (true, predicted, str(count), f"{100 * share:.1f} %")
        for true, predicted, count, share in found.pairs()[:_MOST_CLASSES]
    ]
    return [
        ReportTable(
            f"hardest-{letter}",
            f"The hardest classes over {found.episodes} episodes.",
            ("class", "right", "queries"),
            tuple(hardest),
            frozenset({1, 2}),
        ),
        ReportTable(
            f"confused-{letter}",
            "The classes that are confused most often. The share is of the queries in episodes "
            "that have both classes.",
            ("class", "predicted", "queries", "share"),
            tuple(pairs),
            frozenset({2, 3}),
        ),
    ]
