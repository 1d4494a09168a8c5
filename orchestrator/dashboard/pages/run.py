"""The page of one run: its state, curves, results, bits and configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.data.scoring import score_name
from metafleet.db.records import EvaluationRecord, InnerCurveRecord, InnerRatesRecord, RunRecord
from metafleet.db.repositories.evaluations import EvaluationRepository
from metafleet.db.repositories.inner_curves import InnerCurveRepository
from metafleet.db.repositories.inner_rates import InnerRatesRepository
from metafleet.db.repositories.runs import RunRepository
from metafleet.orchestrator.dashboard.pages.inner_rates import rate_map
from metafleet.orchestrator.dashboard.site import site_of
from metafleet.orchestrator.dashboard.view_state import MOST, whole
from metafleet.orchestrator.records.entry import Entry
from metafleet.orchestrator.records.modality_rows import modality_rows
from metafleet.orchestrator.records.run_view import Changes
from metafleet.orchestrator.records.same_bits import Twin, find_twins
from metafleet.orchestrator.records.selecting import with_results
from metafleet.orchestrator.records.states import LiveState, live_states
from metafleet.orchestrator.reporting.figures import contender
from metafleet.splits import META_VAL
from metafleet.tracking.flat import flat

CHARTS: Final = {
    "loss": "Loss",
    "accuracy": "Score",
    "grad_norm": "Norm of the meta-gradient",
    "lr": "Outer learning rate",
    "step_s": "Seconds of a step",
}


@dataclass(frozen=True, slots=True)
class RunPage:
    """What the page shows of a run."""

    entry: Entry
    live: LiveState
    tests: Sequence[EvaluationRecord]
    inner_curve: InnerCurveRecord | None
    inner_rates: Sequence[InnerRatesRecord]
    modalities: Sequence[Mapping[str, Any]]
    twins: Sequence[Twin]
    changes: Changes | None
    parent: RunRecord | None

    @classmethod
    def read(cls, session: Connection, ref: str, n_workers: int | None) -> "RunPage":
        """Read a run by id, uid, name or "latest"."""
        run = RunRepository(session).get(ref)
        evaluations = EvaluationRepository(session).list(run.id)
        parent = RunRepository(session).find(run.parent_uid) if run.parent_uid else None
        return cls(
            entry=with_results(session, [run])[0],
            live=live_states(session, [run], n_workers=n_workers)[run.id],
            tests=[
                each
                for each in reversed(evaluations)
                if each.split != META_VAL and ", modalities=" not in each.label
            ],
            inner_curve=next(reversed(InnerCurveRepository(session).list(run.id)), None),
            inner_rates=InnerRatesRepository(session).list(run.id),
            modalities=modality_rows(evaluations),
            twins=find_twins(session, run),
            changes=Changes.read(session, run),
            parent=parent,
        )

    @property
    def bits(self) -> tuple[str, str]:
        """The badge about bits: "good", "bad" or "", and its text."""
        differing = [twin for twin in self.twins if twin.differs_at is not None]
        equal = [twin.equal_at for twin in self.twins if twin.equal_at is not None]
        if differing:
            first = min(twin.differs_at or 0 for twin in differing)
            return "bad", f"other bits than {len(differing)} of its twins from step {first} on"
        if equal:
            return "good", f"same bits as {_counted_runs(len(equal))}, up to step {max(equal)}"
        if self.twins:
            return "", "no checkpoint at a step of its twins yet"
        return "", "no other run of the same configuration, seed, data, code and numerics"


def show_run(request: Request) -> Response:
    """Show a run."""
    site = site_of(request)
    with site.read() as session:
        found = RunPage.read(session, request.path_params["ref"], site.fleet.state.n_alive)
    run = found.entry.run
    return site.page(
        request,
        "run.html",
        found=found,
        run=run,
        charts=CHARTS,
        rates=rate_map(
            found.inner_rates,
            whole(request.query_params, "rates", otherwise=MOST, least=0, most=MOST),
        ),
        score=score_name(run.config.get("data", {})),
        settings=_settings(found),
        contender=contender,
    )


def _settings(found: RunPage) -> list[tuple[str, Any, Any, bool]]:
    """Return key, value, other value and whether they differ; those that differ come first."""
    changed: Mapping[str, Any] = {
        change.key: change for change in (found.changes.keys if found.changes else ())
    }
    config = flat(found.entry.run.config)
    keys = sorted({*config, *changed}, key=lambda key: (key not in changed, key))
    return [
        (key, config.get(key), changed[key].before if key in changed else None, key in changed)
        for key in keys
    ]


def _counted_runs(count: int) -> str:
    return "another run" if count == 1 else f"{count} other runs"


ROUTES: Final = (Route("/runs/{ref}", show_run),)
