"""What every page of the dashboard needs: the database, the settings and the templates."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import HTMLResponse

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.orchestrator.dashboard.access import COOKIE, Access
from metafleet.orchestrator.dashboard.fleet import FleetWatch
from metafleet.orchestrator.dashboard.hub import Hub
from metafleet.orchestrator.dashboard.rendering import make_templates
from metafleet.orchestrator.dashboard.sheets import Sheets
from metafleet.orchestrator.dashboard.timelines import Timelines
from metafleet.orchestrator.dashboard.trying.trial import Trial


@dataclass(frozen=True, slots=True)
class Site:
    """One dashboard.

    Attributes:
        database: the database, which only actions write to.
        settings: the deployment's settings.
        access: who may see pages and act.
        fleet: the workers that are alive.
        hub: tells browsers what has changed.
        timelines: the timelines of the runs that were looked at last.
        navigation: label and address of each page in the navigation.
        sheets: draws contact sheets.
        trial: computes what the page "Try it" asks for; None if it is off.
    """

    database: Database
    settings: Settings
    access: Access
    fleet: FleetWatch
    hub: Hub
    timelines: Timelines
    navigation: tuple[tuple[str, str], ...]
    sheets: Sheets = field(default_factory=Sheets)
    trial: Trial | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read-only transaction. Keep it short: render after its end."""
        with self.database.session(read_only=True) as session:
            yield session

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Render a template to a page."""
        cookie = request.cookies.get(COOKIE, "")
        text = (
            make_templates()
            .get_template(template)
            .render(
                request=request,
                path=request.url.path,
                navigation=self.navigation,
                fleet=self.fleet.state,
                can_act=self.access.is_signed_in(cookie),
                has_password=bool(self.access.password),
                form_token=lambda: self.access.form_token(cookie),
                **values,
            )
        )
        return HTMLResponse(text, status)


def site_of(request: Request) -> Site:
    """Return the site of a request."""
    return cast(Site, request.app.state.site)
