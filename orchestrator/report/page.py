"""Puts a report together as one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from metafleet.contracts.version import code_version
from metafleet.db.records import EpisodeResultsRecord
from metafleet.errors import ConfigError
from metafleet.orchestrator.redraw.drawn import DrawnEpisode
from metafleet.orchestrator.redraw.views import Budget
from metafleet.orchestrator.report import repeat, results, words
from metafleet.orchestrator.report.charts import Chart
from metafleet.orchestrator.report.episodes import DrawnGroup, class_tables, view_of
from metafleet.orchestrator.report.facts import TRAINED, GroupFacts, ReportFacts
from metafleet.orchestrator.report.figures import episodes_chart, results_chart, training_chart
from metafleet.orchestrator.report.fleet import fleet_table, worker_rows
from metafleet.orchestrator.report.tables import ReportTable
from metafleet.orchestrator.reporting.figures import counted, percent

MOST_BYTES: Final = 1_000_000
_BUDGETS: Final = (450_000, 200_000, 60_000, 0)
"""Bytes of pictures and sounds. If the page is too large, the next value is tried."""
_BASELINES: Final = {
    "initialisation": "the learner without meta-training",
    "nearest_prototype": "nearest prototypes of raw inputs",
}
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Report:
    """A report before it is written.

    Attributes:
        facts: what the database records.
        records: group -> results of single episodes of its runs.
        drawn: the episodes that were drawn again.
        citations: BibTeX entries.
        written_at: the time on the report.
    """

    facts: ReportFacts
    records: Sequence[tuple[GroupFacts, Sequence[EpisodeResultsRecord]]]
    drawn: Sequence[DrawnGroup]
    citations: Sequence[str]
    written_at: datetime

    def charts(self) -> list[Chart]:
        """Return the figures that the runs have data for."""
        found = (
            results_chart(self.facts),
            training_chart(self.facts),
            episodes_chart(self.facts, self.records),
        )
        return [chart for chart in found if chart is not None]

    def tables(self) -> list[ReportTable]:
        """Return the tables."""
        found = [results.results_table(self.facts), results.seeds_table(self.facts)]
        comparison = self.facts.comparison
        if comparison is not None:
            found.append(results.comparison_table(self.facts, comparison))
            if comparison.keys:
                found.append(results.keys_table(self.facts, comparison))
        found += [fleet_table(self.facts), repeat.digests_table(self.facts)]
        for drawn in self.drawn:
            if drawn.confusion is not None:
                found += class_tables(drawn.confusion, drawn.group.letter)
        return found

    def to_html(self) -> str:
        """Return the page, smaller than ``MOST_BYTES``.

        Raises:
            ConfigError: Jinja is not installed, or the page is too large even without pictures.
        """
        values = self._values()
        for n_bytes in _BUDGETS:
            text = _render(values | {"drawn": self._drawn(n_bytes)})
            if len(text.encode()) < MOST_BYTES:
                return text
        raise ConfigError(
            f"the report would be larger than {MOST_BYTES:,} bytes; write one about fewer runs"
        )

    def _values(self) -> dict[str, Any]:
        facts, groups = self.facts, self.facts.groups
        tables = {table.name: table for table in self.tables()}
        charts = {chart.name: (chart, chart.inline_svg()) for chart in self.charts()}
        comparison = facts.comparison
        return {
            "title": " and ".join(dict.fromkeys(group.name for group in groups)),
            "written_at": self.written_at,
            "version": code_version(),
            "facts": facts,
            "metric": results.metric_of(facts),
            "set_ups": [_set_up(group) for group in groups],
            "status_notes": words.status_notes([view for g in groups for view in g.views]),
            "tables": tables,
            "charts": charts,
            "notes": results.comparison_notes(facts, comparison) if comparison else [],
            "survived": [(g, words.survived(g.views)) for g in groups],
            "workers": worker_rows([view for group in groups for view in group.views]),
            "commands": [(group, repeat.commands(group)) for group in groups],
            "configs": [(g, repeat.config_toml(g.views[0].run.config)) for g in groups],
            "versions": repeat.versions(groups),
            "encoders": repeat.encoders(groups),
            "citations": self.citations,
            "counted": counted,
        }

    def _drawn(self, n_bytes: int) -> list[dict[str, Any]]:
        found = []
        share = n_bytes // max(1, len(self.drawn))
        for drawn in self.drawn:
            budget = Budget(share)
            views = [
                view_of(
                    episode,
                    name=f"episode-{drawn.group.letter}-{episode.index}",
                    place="best" if place == len(drawn.episodes) - 1 else _ordinal(place),
                    result=_result(self.facts, episode),
                    budget=budget,
                )
                for place, episode in enumerate(drawn.episodes)
            ]
            charts = {v.chart.name: v.chart.inline_svg() for v in views if v.chart is not None}
            found.append(
                {"group": drawn, "episodes": views, "charts": charts, "left_out": budget.left_out}
            )
        return found


def _set_up(group: GroupFacts) -> dict[str, Any]:
    run = group.views[0].run
    changes = group.views[0].changes
    baselines = [_BASELINES.get(r.label, r.label) for r in group.results if r.label != TRAINED]
    return {
        "group": group,
        "question": str(run.config.get("description", "")),
        "notes": list(dict.fromkeys(view.run.note for view in group.views if view.run.note)),
        "tags": sorted({tag for view in group.views for tag in view.tags}),
        "rows": words.set_up(run.config),
        "protocol": words.protocol(run.config, baselines),
        "seeds": ", ".join(str(view.run.seed) for view in group.views),
        "origin": changes.origin if changes and changes.keys else "",
    }


def _ordinal(place: int) -> str:
    """Return "worst", "2nd worst", "3rd worst" ..."""
    if place == 0:
        return "worst"
    return f"{place + 1}{ {1: 'nd', 2: 'rd'}.get(place, 'th') } worst"


def _result(facts: ReportFacts, episode: DrawnEpisode) -> str:
    metric = results.metric_of(facts)
    if episode.accuracy is None:
        return f"loss {episode.loss:.4g}"
    return f"{metric} {percent(episode.accuracy)}, loss {episode.loss:.4g}"


def _render(values: Mapping[str, Any]) -> str:
    try:
        import jinja2  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ConfigError(
            f"a report needs Jinja ({error}); pip install 'metafleet[report]'"
        ) from error
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html").render(values)
