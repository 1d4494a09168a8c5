"""Which figures a report has."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from metafleet.db.records import EpisodeResultsRecord
from metafleet.orchestrator.records.intervals import Mean
from metafleet.orchestrator.redraw.drawn import DrawnEpisode
from metafleet.orchestrator.report.charts import Chart, legend, line_style, new_figure, thinned
from metafleet.orchestrator.report.facts import TRAINED, GroupFacts, ReportFacts
from metafleet.orchestrator.report.results import metric_of
from metafleet.splits import META_VAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_LABEL: Final = 32
_BINS: Final = 24


def training_chart(facts: ReportFacts) -> Chart | None:
    """Draw the training loss and the meta-validations of each group."""
    groups = [group for group in facts.groups if any(view.steps for view in group.views)]
    if not groups:
        return None

    def draw() -> "Figure":
        figure, (left, right) = new_figure(height=2.7, columns=2)
        for group in groups:
            index = ord(group.letter) - ord("A")
            style = line_style(index)
            curves = [thinned([step.loss for step in view.steps]) for view in group.views]
            for places, means in curves:
                alpha = 0.35 if len(curves) > 1 else 1.0
                left.plot(places, means, linewidth=0.8, alpha=alpha, **style)
            if len(curves) > 1:
                places, means = _mean_curve(curves)
                left.plot(places, means, linewidth=1.6, **style)
            points = _validations(group, is_share=facts.is_share)
            steps = [step for step, _, _ in points]
            values = [value for _, value, _ in points]
            right.plot(
                steps, values, marker="o", markersize=3, linewidth=1.4, label=_label(group), **style
            )
            low = [value - (ci95 or 0.0) for _, value, ci95 in points]
            high = [value + (ci95 or 0.0) for _, value, ci95 in points]
            right.fill_between(steps, low, high, color=style["color"], alpha=0.18, linewidth=0)
        left.set_xlabel("outer step")
        left.set_ylabel("training loss of the queries")
        right.set_xlabel("outer step")
        right.set_ylabel(_axis(facts, "meta-validation"))
        for axes in (left, right):
            axes.locator_params(axis="x", integer=True, nbins=6)
        if facts.is_share:
            right.set_ylim(*_within_shares(right.get_ylim()))
        if not any(_validations(group, is_share=facts.is_share) for group in groups):
            right.text(0.5, 0.5, "no meta-validation", ha="center", transform=right.transAxes)
        legend(right, len(groups))
        return figure

    rows = [
        (group.letter, str(step), f"{value:.4g}", "-" if ci95 is None else f"{ci95:.4g}")
        for group in groups
        for step, value, ci95 in _validations(group, is_share=facts.is_share)
    ]
    unit = " (%)" if facts.is_share else ""
    return Chart(
        "training",
        "Left: the loss of the query sets in training, as means of consecutive steps; a thin line "
        "for each seed, a thick line for their mean. Right: the meta-validations with 95 % "
        "intervals, over seeds or, with one seed, over episodes.",
        ("runs", "outer step", f"meta-validation{unit}", "± 95 %"),
        tuple(rows),
        draw,
    )


def results_chart(facts: ReportFacts) -> Chart | None:
    """Draw the results of all groups and baselines with their intervals."""
    rows = [(group, result) for group in facts.groups for result in group.results]
    if len(rows) < 2 or (not facts.is_share and any(result.is_share for _, result in rows)):
        return None
    unit = 100 if facts.is_share else 1
    several = len(facts.groups) > 1

    def name_of(group: GroupFacts, label: str) -> str:
        state = {
            TRAINED: "meta-trained",
            "initialisation": "without meta-training",
            "nearest_prototype": "nearest raw prototype",
        }.get(label, label)
        return f"{group.letter}  {state}" if several else state

    def draw() -> "Figure":
        figure, (axes,) = new_figure(height=0.7 + 0.24 * len(rows))
        for place, (group, result) in enumerate(rows):
            colour = line_style(ord(group.letter) - ord("A"))["color"]
            axes.errorbar(
                [unit * result.value],
                [place],
                xerr=[unit * (result.ci95 or 0.0)],
                fmt="o" if result.label == TRAINED else "s",
                markersize=5 if result.label == TRAINED else 3.5,
                markerfacecolor=colour if result.label == TRAINED else "none",
                color=colour,
                elinewidth=1.4,
                capsize=3,
            )
        axes.set_yticks(range(len(rows)), [name_of(g, r.label) for g, r in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        if facts.is_share:
            axes.set_xlim(*_within_shares(axes.get_xlim()))
        axes.set_xlabel(_axis(facts, facts.split))
        return figure

    return Chart(
        "results",
        "Results with 95 % intervals. Filled circles are meta-trained states.",
        ("state", facts.split, "± 95 %"),
        tuple(
            (name_of(group, result.label), f"{unit * result.value:.4g}", _half(result.ci95, unit))
            for group, result in rows
        ),
        draw,
    )


def episodes_chart(
    facts: ReportFacts, found: Sequence[tuple[GroupFacts, Sequence[EpisodeResultsRecord]]]
) -> Chart | None:
    """Draw a histogram of the results of single episodes, for each group."""
    unit = 100 if facts.is_share else 1
    values = [
        (group, [unit * value for record in records for value in _values(record, facts.is_share)])
        for group, records in found
    ]
    values = [(group, own) for group, own in values if own]
    every = [value for _, own in values for value in own if math.isfinite(value)]
    if not every:
        return None
    edges = _edges(every)

    def draw() -> "Figure":
        figure, (axes,) = new_figure(height=2.2)
        for group, own in values:
            style = line_style(ord(group.letter) - ord("A"))
            shares = [100 * count / len(own) for count in _counts(own, edges)]
            axes.stairs(shares, edges, label=_label(group), linewidth=1.5, **style)
            axes.stairs(shares, edges, fill=True, alpha=0.15, color=style["color"])
        axes.set_xlabel(f"{metric_of(facts)} of an episode{' (%)' if facts.is_share else ''}")
        axes.set_ylabel("share of episodes (%)")
        legend(axes, len(values))
        return figure

    rows = [
        (group.letter, f"{low:.4g} to {high:.4g}", str(count))
        for group, own in values
        for low, high, count in zip(edges, edges[1:], _counts(own, edges), strict=False)
        if count
    ]
    return Chart(
        "episodes",
        f"How the results of single episodes of {facts.split} are distributed, over all seeds.",
        ("runs", f"{metric_of(facts)} of an episode", "episodes"),
        tuple(rows),
        draw,
    )


def function_chart(name: str, episode: DrawnEpisode) -> Chart | None:
    """Draw an episode of regression with one input and one output; None for others."""
    support, query = episode.support, sorted(episode.query, key=lambda item: item.inputs)
    if any(len(i.inputs) != 1 or len(i.values) != 1 for i in (*support, *query)):
        return None

    def draw() -> "Figure":
        figure, (axes,) = new_figure(width=3.4, height=2.1)
        xs = [item.inputs[0] for item in query]
        targets, outputs = [i.values[0] for i in query], [i.outputs[0] for i in query]
        axes.plot(xs, targets, color="#777777", linewidth=1.2, label="target")
        axes.plot(xs, outputs, color="#4477aa", linewidth=1.6, label="predicted")
        axes.plot(
            [item.inputs[0] for item in support],
            [item.values[0] for item in support],
            "o",
            color="#ee6677",
            markersize=4.5,
            label="support",
        )
        axes.legend(fontsize=7, frameon=False, loc="best")
        return figure

    rows = tuple((f"{i.inputs[0]:.4g}", f"{i.values[0]:.4g}", f"{i.outputs[0]:.4g}") for i in query)
    return Chart(name, "", ("input", "target", "predicted"), rows, draw)


def _within_shares(ends: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of an axis in per cent; intervals of few seeds can be wider than that."""
    return max(ends[0], -2.0), min(ends[1], 102.0)


def _label(group: GroupFacts) -> str:
    name = group.name
    short = name if len(name) <= _MOST_LABEL else f"{name[: _MOST_LABEL - 1]}…"
    n = len(group.views)
    return f"{group.letter}: {short}" + (f" ({n} seeds)" if n > 1 else "")


def _axis(facts: ReportFacts, split: str) -> str:
    return f"{split} {metric_of(facts)}" + (" (%)" if facts.is_share else "")


def _mean_curve(curves: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], Any]:
    """Return the mean of curves as far as the shortest one goes."""
    n = min(len(means) for _, means in curves)
    longest = max(curves, key=lambda curve: len(curve[0]))[0][:n]
    return longest, [sum(means[i] for _, means in curves) / len(curves) for i in range(n)]


def _validations(group: GroupFacts, *, is_share: bool) -> list[tuple[int, float, float | None]]:
    """Return (step, value, half width of the interval), over seeds if there are several."""
    unit = 100 if is_share else 1
    by_step: dict[int, list[tuple[float, float | None]]] = {}
    for view in group.views:
        for one in view.evaluations:
            if one.split != META_VAL or one.label != TRAINED:
                continue
            value = one.accuracy if is_share else one.loss
            ci95 = one.accuracy_ci95 if is_share else one.loss_ci95
            if value is not None and math.isfinite(value):
                half = None if ci95 is None else unit * ci95
                by_step.setdefault(one.step, []).append((unit * value, half))
    points = []
    for step in sorted(by_step):
        found = by_step[step]
        if len(found) == 1:
            points.append((step, *found[0]))
        else:
            mean = Mean.of([value for value, _ in found])
            points.append((step, mean.mean, mean.ci95))
    return points


def _values(record: EpisodeResultsRecord, is_share: bool) -> Sequence[float]:
    return (record.accuracies or ()) if is_share else record.losses


def _edges(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return [low + (high - low) * i / _BINS for i in range(_BINS + 1)]


def _counts(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    low, width = edges[0], edges[1] - edges[0]
    counts = [0] * (len(edges) - 1)
    for value in values:
        if math.isfinite(value):
            counts[min(len(counts) - 1, int((value - low) / width))] += 1
    return counts


def _half(ci95: float | None, unit: int) -> str:
    return "-" if ci95 is None else f"{unit * ci95:.3g}"
