"""The page that compares runs, or groups over seeds: results, paired tests, curves and keys."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.db.records import EvaluationRecord
from metafleet.db.repositories.evaluations import TRAINED, EvaluationRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.dashboard.charts import Chart, Point, Series, charts_response
from metafleet.orchestrator.dashboard.site import site_of
from metafleet.orchestrator.records.arms import Arm, find_arms, group_of, refuse_common_runs
from metafleet.orchestrator.records.comparison import compare_arms
from metafleet.orchestrator.records.intervals import Mean
from metafleet.splits import META_TEST, META_VAL

MOST_ARMS: Final = 20
_SPLITS: Final = (META_TEST, META_VAL)


def show_comparison(request: Request) -> Response:
    """Compare the runs that the URL names; each further one is compared with the first."""
    site = site_of(request)
    split = request.query_params.get("split", META_TEST)
    if split not in _SPLITS:
        raise ConfigError(f"split={split!r:.40}; expected one of {', '.join(_SPLITS)}")
    with site.read() as session:
        found = compare_arms(session, _arms(session, request), split)
    return site.page(
        request,
        "compare.html",
        found=found,
        splits=_SPLITS,
        letters=[_letter(index) for index in range(len(found.arms))],
    )


def show_curves(request: Request) -> Response:
    """Return the validations of the compared runs as charts."""
    with site_of(request).read() as session:
        arms = _arms(session, request)
        repository = EvaluationRepository(session)
        validations = [
            [repository.list(entry.run.id, split=META_VAL, label=TRAINED) for entry in arm.runs]
            for arm in arms
        ]
    first, last = (request.query_params.get(name, "") for name in ("from", "to"))
    within = (int(first) if first.isdigit() else 1, int(last) if last.isdigit() else 2**31)
    return charts_response(
        {
            "accuracy": Chart(_series(arms, validations, within, "accuracy"), unit="share"),
            "loss": Chart(_series(arms, validations, within, "loss")),
        }
    )


def _arms(session: Connection, request: Request) -> list[Arm]:
    """Return the runs, or groups of runs, that the URL names."""
    names = list(dict.fromkeys(request.query_params.getlist("run")))
    if not 2 <= len(names) <= MOST_ARMS:
        raise ConfigError(
            f"{len(names)} runs are selected; expected 2 to {MOST_ARMS} of the page of runs"
        )
    if request.query_params.get("group") != "1":
        return find_arms(session, names)
    runs = [RunRepository(session).get(name) for name in names]
    return refuse_common_runs(
        [Arm(f"{run.name} #{run.id}", group_of(session, run)) for run in runs]
    )


def _series(
    arms: Sequence[Arm],
    validations: Sequence[Sequence[Sequence[EvaluationRecord]]],
    within: tuple[int, int],
    column: str,
) -> list[Series]:
    return [
        Series(
            f"{_letter(index)} {title(arm)}",
            {x: y for x, y in _points(runs, column).items() if within[0] <= x <= within[1]},
            band="95 % interval over seeds" if len(runs) > 1 else "95 % interval",
            dots=True,
        )
        for index, (arm, runs) in enumerate(zip(arms, validations, strict=True))
    ]


def title(arm: Arm) -> str:
    """Return the name of an arm's runs, and what tells them apart from others of this name."""
    run = arm.group.entries[0].run
    return f"{run.name} #{run.id}" if len(arm.runs) == 1 else f"{run.name} ({len(arm.runs)} seeds)"


def _points(runs: Sequence[Sequence[EvaluationRecord]], column: str) -> Mapping[int, Point]:
    """Return step -> value; for several seeds, their mean at the steps that all have validated.

    With steps that only some of the seeds have, the mean would jump where a seed ends. Seeds
    without any validation are left out.
    """
    found = ({one.step: one for one in run if getattr(one, column) is not None} for run in runs)
    by_run: list[dict[int, Any]] = [run for run in found if run]
    if not by_run:
        return {}
    if len(by_run) == 1:
        return {
            step: _around(getattr(one, column), getattr(one, f"{column}_ci95"))
            for step, one in by_run[0].items()
        }
    steps = set.intersection(*(set(run) for run in by_run))
    means = {step: Mean.of([getattr(run[step], column) for run in by_run]) for step in steps}
    return {step: _around(mean.mean, mean.ci95) for step, mean in means.items()}


def _around(value: float, half_width: float | None) -> Point:
    return (
        Point(value) if half_width is None else Point(value, value - half_width, value + half_width)
    )


def _letter(index: int) -> str:
    return chr(ord("A") + index)


ROUTES: Final = (Route("/compare", show_comparison), Route("/compare.json", show_curves))
