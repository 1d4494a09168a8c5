"""The charts of a run: its training, aggregated by the database, and its validations."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.db.records import OUTER_STEPS, EvaluationRecord, InnerCurveRecord, InnerRatesRecord
from metafleet.db.repositories.curves import Bucket, CurveRepository
from metafleet.db.repositories.evaluations import TRAINED, EvaluationRepository
from metafleet.db.repositories.inner_curves import InnerCurveRepository
from metafleet.db.repositories.inner_rates import InnerRatesRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.dashboard.charts import (
    MOST_POINTS,
    Chart,
    Point,
    Series,
    charts_response,
)
from metafleet.orchestrator.dashboard.site import site_of
from metafleet.orchestrator.dashboard.view_state import MOST, whole
from metafleet.splits import META_VAL

_COLUMNS: Final = ("loss", "accuracy", "grad_norm", "lr", "step_s")
_MOST_LAYERS: Final = 16
_SPREAD: Final = "least and greatest"
_INTERVAL: Final = "95 % interval"


def show_curves(request: Request) -> Response:
    """Return the charts of a run for the steps that the URL names."""
    with site_of(request).read() as session:
        run = RunRepository(session).get(request.path_params["run_id"])
        return charts_response(read_charts(session, run.id, request.query_params))


def show_inner_curves(request: Request) -> Response:
    """Return the results of the newest evaluation of a run after each inner step, as charts."""
    with site_of(request).read() as session:
        run = RunRepository(session).get(request.path_params["run_id"])
        curves = InnerCurveRepository(session).list(run.id)
    return charts_response(inner_charts(curves[-1]) if curves else {})


def inner_charts(curve: InnerCurveRecord) -> dict[str, Chart]:
    """Return the charts of loss and score before the first and after each inner step."""
    accuracies = (curve.query_accuracies, curve.query_accuracies_ci95, curve.support_accuracies)
    losses = (curve.query_losses, curve.query_losses_ci95, curve.support_losses)
    return {
        "inner_accuracy": Chart(_of_inner_steps(*accuracies), x_label="inner step", unit="share"),
        "inner_loss": Chart(_of_inner_steps(*losses), x_label="inner step"),
    }


def _of_inner_steps(
    query: Sequence[float] | None,
    query_ci95: Sequence[float] | None,
    support: Sequence[float] | None,
) -> tuple[Series, ...]:
    around = map(_around, query or (), query_ci95 or ())
    return (
        Series("query set", dict(enumerate(around)), band=_INTERVAL, dots=True),
        Series("support set", dict(enumerate(map(Point, support or ()))), dots=True),
    )


def read_charts(session: Connection, run_id: int, query: Mapping[str, str]) -> dict[str, Chart]:
    """Return the charts of the steps ``from`` to ``to``; of all steps if the query has neither."""
    end = CurveRepository(session).last_step(run_id)
    first = whole(query, "from", otherwise=1, least=1, most=max(end, 1))
    last = whole(query, "to", otherwise=max(end, 1), least=first, most=MOST)
    columns = [name for name in _COLUMNS if name in OUTER_STEPS.c]
    curves = CurveRepository(session)
    buckets = curves.steps(run_id, columns, within=(first, last), most=MOST_POINTS)
    validations = [
        each
        for each in EvaluationRepository(session).list(run_id, split=META_VAL, label=TRAINED)
        if first <= each.step <= last
    ]
    return {
        "loss": Chart(
            (
                _of_steps(buckets, "loss", "training, query loss"),
                _of_steps(buckets, "support_loss", "training, support loss"),
                _losses(validations),
            )
        ),
        "accuracy": Chart(
            (_of_steps(buckets, "accuracy", "training"), _accuracies(validations)), unit="share"
        ),
        "grad_norm": Chart((_of_steps(buckets, "grad_norm", "gradient norm"),)),
        "lr": Chart((_of_steps(buckets, "lr", "learning rate"),)),
        "inner_rates": Chart(_of_rates(InnerRatesRepository(session).list(run_id), first, last)),
        "step_s": Chart((_of_steps(buckets, "step_s", "seconds"),)),
    }


def _of_rates(records: Sequence[InnerRatesRecord], first: int, last: int) -> list[Series]:
    """Return a series for each parameter: the mean over the inner steps."""
    points: dict[str, dict[int, Point]] = {}
    for record in records:
        if first <= record.step <= last:
            for layer, rates in record.by_layer().items():
                band = Point(fmean(rates), min(rates), max(rates))
                points.setdefault(layer, {})[record.step] = band
    return [Series(layer, of_layer, band=_SPREAD) for layer, of_layer in points.items()][
        :_MOST_LAYERS
    ]


def _of_steps(buckets: Sequence[Bucket], column: str, name: str) -> Series:
    points = {
        bucket.step: Point(spread.mean, spread.low, spread.high)
        for bucket in buckets
        if (spread := bucket.spreads.get(column)) is not None
    }
    return Series(name, points, band=_SPREAD)


def _losses(validations: Sequence[EvaluationRecord]) -> Series:
    points = {each.step: _around(each.loss, each.loss_ci95) for each in validations}
    return Series("meta-validation", points, band=_INTERVAL, dots=True)


def _accuracies(validations: Sequence[EvaluationRecord]) -> Series:
    points = {
        each.step: _around(each.accuracy, each.accuracy_ci95 or 0.0)
        for each in validations
        if each.accuracy is not None
    }
    return Series("meta-validation", points, band=_INTERVAL, dots=True)


def _around(value: float, half_width: float) -> Point:
    return Point(value, value - half_width, value + half_width)


ROUTES: Final = (
    Route("/runs/{run_id:int}/curves.json", show_curves),
    Route("/runs/{run_id:int}/inner.json", show_inner_curves),
)
