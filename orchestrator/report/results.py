"""The tables of results: over seeds, of each seed, and of comparisons."""

from collections.abc import Sequence
from typing import Final

from metafleet.data.scoring import score_name
from metafleet.orchestrator.records.comparison import Comparison
from metafleet.orchestrator.records.literals import shown
from metafleet.orchestrator.records.paired import Paired
from metafleet.orchestrator.report.facts import TRAINED, GroupFacts, ReportFacts, Result
from metafleet.orchestrator.report.tables import ReportTable
from metafleet.orchestrator.reporting.figures import contender, counted, figure, percent

_MOST_KEYS: Final = 30
_WIDEST: Final = 60


def metric_of(facts: ReportFacts) -> str:
    """Return the name of the score, or "loss"."""
    if not facts.is_share:
        return "loss"
    return score_name(facts.groups[0].views[0].run.config.get("data", {}))


def results_table(facts: ReportFacts) -> ReportTable:
    """Return the results of each group: chance, the baselines and the trained state."""
    rows: list[tuple[str, ...]] = []
    bold = set()
    several = len(facts.groups) > 1
    for group in facts.groups:
        name = (group.title,) if several else ()
        chance = _chance(group)
        if chance is not None and facts.is_share and metric_of(facts) == "accuracy":
            rows.append((*name, "chance", percent(chance), "", ""))
        for result in group.results:
            if result.label == TRAINED:
                bold.add(len(rows))
            rows.append((*name, contender(result.label), *_cells(result)))
        if not group.results:
            rows.append((*name, "no result", "-", "0", "-"))
    columns = ("state", f"{facts.split} {metric_of(facts)} (95 %)", "seeds", "episodes each")
    first = ("runs",) if several else ()
    n = len(first)
    return ReportTable(
        "results",
        f"Results on {facts.split}. {interval_note(facts)}",
        (*first, *columns),
        tuple(rows),
        frozenset({n + 1, n + 2, n + 3}),
        frozenset(bold),
    )


def interval_note(facts: ReportFacts) -> str:
    """Return what the intervals in the table of results mean."""
    several = any(result.n_seeds > 1 for group in facts.groups for result in group.results)
    single = any(result.n_seeds == 1 for group in facts.groups for result in group.results)
    over_seeds = (
        "With several seeds: mean over seeds ± half the width of its 95 % interval "
        "(Student's t distribution)."
    )
    over_episodes = (
        "With one seed: mean over episodes ± half the width of its 95 % interval "
        "(1.96 standard errors), which says nothing about other seeds."
    )
    return " ".join([*([over_seeds] if several else []), *([over_episodes] if single else [])])


def seeds_table(facts: ReportFacts) -> ReportTable:
    """Return the result of each run, with its status."""
    rows = []
    for group in facts.groups:
        for view in group.views:
            run, chosen = view.run, group.chosen(view)
            value = "-"
            if chosen is not None and chosen.accuracy is not None:
                value = percent(chosen.accuracy, chosen.accuracy_ci95)
            elif chosen is not None:
                value = figure(chosen.loss, chosen.loss_ci95, is_share=False)
            rows.append(
                (
                    group.title,
                    str(run.seed),
                    run.uid,
                    run.status.value,
                    f"{run.steps_done} of {run.n_steps}",
                    "-" if chosen is None else str(chosen.step),
                    value,
                )
            )
    columns = ("runs", "seed", "uid", "status", "outer steps", "state of step")
    value = f"{facts.split} {metric_of(facts)} (95 % over episodes)"
    return ReportTable(
        "seeds",
        "The result of each run.",
        (*columns, value),
        tuple(rows),
        frozenset({1, 4, 5, 6}),
    )


def comparison_table(facts: ReportFacts, found: Comparison) -> ReportTable:
    """Return the paired tests of each further group against the first one."""
    rows = []
    for group, contrast in zip(facts.groups[1:], found.contrasts, strict=True):
        name = group.title
        for noun, one in (("episode", contrast.of_episodes), ("seed", contrast.of_seeds)):
            if one is not None:
                rows.append((name, counted(one.n, noun), *_paired(found, one)))
        if contrast.of_episodes is None:
            rows.append((name, "none", "-", "-", "-", contrast.problem or "not compared"))
    first = facts.groups[0]
    return ReportTable(
        "comparison",
        f"Difference from {first.title} on the same episodes of {found.split}. Student's paired t "
        "test, p corrected for several comparisons (Holm). The interval is a bootstrap interval "
        "for 50 pairs or more, and else one of Student's t distribution.",
        ("runs", "pairs", "difference", "95 % interval", "p", f"against {first.letter}"),
        tuple(rows),
        frozenset({2, 3, 4}),
    )


def keys_table(facts: ReportFacts, found: Comparison) -> ReportTable:
    """Return the keys of the configuration in which the groups differ."""
    rows = [
        (key, *("-" if value is None else _cut(shown(value)) for value in values))
        for key, values in list(found.keys.items())[:_MOST_KEYS]
    ]
    if len(found.keys) > _MOST_KEYS:
        rows.append((f"... {counted(len(found.keys), 'key')} in all", *("" for _ in facts.groups)))
    columns = ("key", *(group.title for group in facts.groups))
    return ReportTable("differences", "Differences between the groups.", columns, tuple(rows))


def comparison_notes(facts: ReportFacts, found: Comparison) -> list[str]:
    """Return what a reader of the comparison must know."""
    notes = [
        f"{group.letter} against {facts.groups[0].letter}: {text}."
        for group, contrast in zip(facts.groups[1:], found.contrasts, strict=True)
        if (text := contrast.problem or contrast.note)
    ]
    if any(c.of_episodes is not None and c.of_seeds is None for c in found.contrasts):
        notes.append(
            "A comparison of one seed compares two trained states, and says nothing about other "
            "seeds."
        )
    return notes


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _chance(group: GroupFacts) -> float | None:
    episodes = group.views[0].run.config.get("episodes", {})
    own = (episodes.get(group.split) or {}).get("n_way")
    n_way = episodes.get("n_way", 0) if own is None else own
    return 1 / n_way if n_way else None


def _cells(result: Result) -> tuple[str, str, str]:
    value = figure(result.value, result.ci95, is_share=result.is_share)
    return value, str(result.n_seeds), str(result.episodes)


def _paired(found: Comparison, one: Paired) -> Sequence[str]:
    unit, digits = (100, 2) if found.metric == "score" else (1, 4)
    sign = " %" if found.metric == "score" else ""
    interval = p = "not defined"
    if one.p is not None and one.low is not None and one.high is not None:
        interval = " to ".join(f"{unit * end:+.{digits}f}" for end in (one.low, one.high)) + sign
        p = "< 0.0001" if one.p < 0.0001 else f"{one.p:.4f}"
    return f"{unit * one.mean:+.{digits}f}{sign}", interval, p, found.verdict(one)
