"""Tables of evaluations: of one run, and over the seeds of several."""

import statistics
from collections.abc import Iterable, Sequence

import click

from metafleet.data.registry import least_mse
from metafleet.orchestrator.cli.tables import make_table, show_table
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.reporting.figures import contender, counted, percent, plus_minus
from metafleet.orchestrator.reporting.output import notify
from metafleet.orchestrator.training.events import EvaluationDone


def show_evaluations(evaluations: Sequence[EvaluationDone], config: ExperimentConfig) -> None:
    """Print a table of the evaluations of one split.

    The first row shows the accuracy of guessing at random; in regression, it shows the loss that
    the noise of the targets alone causes. The last row is the trained state. The line above the
    table describes the episodes, and says how they differ from the run's own episodes.
    """
    is_classification = _is_classification(evaluations)
    metric = evaluations[0].metric
    figures = (f"{metric} (95 %)", "loss (95 %)")[0 if is_classification else 1 :]
    table = make_table("judged", *figures, right=figures, fold="judged")
    if is_classification and metric == "accuracy":
        shape = config.episodes.shape(evaluations[0].split)
        table.add_row("chance", percent(1 / shape.n_way), "", style="dim")
    elif not is_classification and (floor := least_mse(config.data)):
        table.add_row("noise of the targets, squared", f"{floor:.4f}", style="dim")
    usual = _changes(_described(evaluations))
    for e in sorted(evaluations, key=_is_trained):
        accuracy = (percent(e.accuracy, e.accuracy_ci95),) if is_classification else ()
        table.add_row(
            contender(_judged(e) if _changes(e) == usual else e.label),
            *accuracy,
            plus_minus(e.loss, e.loss_ci95),
            style="bold" if _is_trained(e) else None,
        )
    click.secho(_describe(evaluations, config), bold=True)
    show_table(table)
    if better := _better_untrained(evaluations):
        notify(better)


def show_seeds(by_seed: Sequence[Sequence[EvaluationDone]]) -> None:
    """Print each contender's mean over seeds, with the standard deviation from seed to seed."""
    labels = dict.fromkeys(e.label for run in by_seed for e in run)
    found = {
        label: [e for run in by_seed for e in run if e.label == label]
        for label in sorted(labels, key=lambda label: label == "trained")
    }
    found = {label: of_all for label, of_all in found.items() if len(of_all) == len(by_seed)}
    if not found:
        return
    is_classification = _is_classification(next(iter(found.values())))
    metric = next(iter(found.values()))[0].metric
    figures = (metric, "loss")[0 if is_classification else 1 :]
    table = make_table("judged", *figures, right=figures, fold="judged")
    for label, evaluations in found.items():
        accuracies = [e.accuracy for e in evaluations if e.accuracy is not None]
        table.add_row(
            contender(label),
            *((percent(*_mean_and_spread(accuracies)),) if accuracies else ()),
            plus_minus(*_mean_and_spread(e.loss for e in evaluations)),
            style="bold" if label == "trained" else None,
        )
    split = evaluations[0].split
    click.secho(
        f"{split}: mean of {counted(len(by_seed), 'seed')} ± standard deviation from seed to seed",
        bold=True,
    )
    show_table(table)


def _mean_and_spread(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    return statistics.fmean(known), statistics.stdev(known)


def _describe(evaluations: Sequence[EvaluationDone], config: ExperimentConfig) -> str:
    last = _described(evaluations)
    shape = config.episodes.shape(last.split)
    ways = f"{shape.n_way}-way " if shape.n_way else ""
    otherwise = _changes(last)
    return (
        f"{last.split}: {last.episodes} episodes, {ways}{shape.k_shot}-shot, "
        f"{shape.n_query} query; batch norm {last.batch_norm}"
        + (f"; {otherwise}" if otherwise else "")
    )


def _described(evaluations: Sequence[EvaluationDone]) -> EvaluationDone:
    """Return the evaluation whose episodes are described above the table."""
    return max(evaluations, key=_is_trained)


def _changes(evaluation: EvaluationDone) -> str:
    """Return how the episodes differ from the run's own; "" if they do not."""
    return evaluation.label.partition(", ")[2]


def _is_classification(evaluations: Sequence[EvaluationDone]) -> bool:
    return evaluations[0].accuracy is not None


def _judged(evaluation: EvaluationDone) -> str:
    return evaluation.label.partition(", ")[0]


def _is_trained(evaluation: EvaluationDone) -> bool:
    return _judged(evaluation) == "trained"


def _better_untrained(evaluations: Sequence[EvaluationDone]) -> str:
    """Return a warning if a baseline is clearly better than the trained state; otherwise "".

    A baseline is clearly better if its mean is better and the two 95 % intervals do not overlap.
    """
    trained = next((e for e in evaluations if _is_trained(e)), None)
    others = [e for e in evaluations if not _is_trained(e)]
    if trained is None or not others:
        return ""
    best = max(others, key=_quality)
    if _quality(best) - _half_width(best) <= _quality(trained) + _half_width(trained):
        return ""
    return (
        f"meta-training made it worse than {contender(_judged(best))!r}; try fewer outer.steps, a "
        "smaller outer.lr or more classes, or use what was not trained"
    )


def _quality(evaluation: EvaluationDone) -> float:
    return -evaluation.loss if evaluation.accuracy is None else evaluation.accuracy


def _half_width(evaluation: EvaluationDone) -> float:
    if evaluation.accuracy is None:
        return evaluation.loss_ci95
    return evaluation.accuracy_ci95 or 0.0
