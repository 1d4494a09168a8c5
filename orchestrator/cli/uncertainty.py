"""Tables that show how good a model's estimates of its uncertainty are."""

from collections.abc import Sequence

import click

from metafleet.calibration.judging import Mean, Uncertainty
from metafleet.episode import META_VAL
from metafleet.orchestrator.cli.tables import make_table, show_table
from metafleet.orchestrator.reporting.figures import percent

_PROMISE = (
    "coverage is promised for episodes drawn like those it was calibrated on; the classes of {} "
    "are others, so it holds as far as they are alike, and not for a folder of yours"
)

_SAME_CLASSES = (
    "these are the classes that it was calibrated on, so the coverage says little of other "
    "classes; judge it on --split meta_test"
)


def show_uncertainty(judged: Sequence[Uncertainty]) -> None:
    """Print probabilities, label sets and unknown items, a row for each shape of episodes."""
    if not judged:
        return
    _show_probabilities(judged)
    for each in judged:
        _show_reliability(each)
    _show_label_sets(judged)
    _show_unknown(judged)


def _show_probabilities(judged: Sequence[Uncertainty]) -> None:
    right = ("temperature", "ECE", "ECE without", "loss", "loss without")
    table = make_table("episodes", "calibrated on", *right, right=right, fold="calibrated on")
    for each in judged:
        table.add_row(
            _episodes(each),
            each.calibrated_on,
            f"{each.temperature:.3g}",
            percent(each.ece),
            percent(each.ece_before),
            f"{each.loss:.4f}",
            f"{each.loss_before:.4f}",
        )
    _title(judged, "probabilities, with the temperature and without")
    show_table(table)


def _show_reliability(uncertainty: Uncertainty) -> None:
    right = ("probability", "answers", "mean probability", "right")
    table = make_table(*right, right=right)
    for each in uncertainty.reliability:
        if each.answers:
            bounds = f"{each.lower:.2f} to {each.upper:.2f}"
            shares = (percent(each.confidence), percent(each.accuracy))
            table.add_row(bounds, f"{each.answers:,}", *shares)
    click.secho(f"reliability, {_episodes(uncertainty)}", bold=True)
    show_table(table)


def _show_label_sets(judged: Sequence[Uncertainty]) -> None:
    right = ("asked", "covered (95 %)", "labels (95 %)", "ask a person (95 %)")
    table = make_table("episodes", *right, right=right)
    for each in judged:
        for found in each.coverage:
            table.add_row(
                _episodes(each),
                percent(found.asked),
                _share(found.covered),
                f"{found.set_size.mean:.2f} ± {found.set_size.ci95:.2f}",
                _share(found.asks),
            )
    _title(judged, "label sets")
    show_table(table)
    split = judged[0].split
    click.echo(_SAME_CLASSES if split == META_VAL else _PROMISE.format(split))
    click.echo()


def _show_unknown(judged: Sequence[Uncertainty]) -> None:
    right = (
        "others",
        "AUROC",
        "known kept (95 %)",
        "of them right",
        "unknown refused",
        "all right",
    )
    table = make_table("episodes", "score", *right, right=right)
    for each in judged:
        found = each.unknown
        if found is None:
            table.add_row(_episodes(each), "no classes left for it")
            continue
        shares = (found.kept, found.accuracy, found.refused, found.right)
        table.add_row(
            _episodes(each),
            found.score,
            f"{found.n_unknown}",
            f"{found.auroc:.4f}",
            *map(_share, shares),
        )
    _title(judged, '"none of these", at the threshold that keeps 95 % of known items')
    show_table(table)


def _title(judged: Sequence[Uncertainty], what: str) -> None:
    click.secho(f"{judged[0].split}, {judged[0].episodes} episodes: {what}", bold=True)


def _episodes(each: Uncertainty) -> str:
    return f"{each.n_way}-way {each.k_shot}-shot"


def _share(of: Mean) -> str:
    return percent(of.mean, of.ci95)
