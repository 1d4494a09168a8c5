"""What people who have signed in can do to a run: cancel, resume, tag, annotate and archive."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Final

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metafleet.db.records import RunStatus
from metafleet.db.repositories.run_notes import RunNotes
from metafleet.db.repositories.runs import RunRepository
from metafleet.errors import ConfigError
from metafleet.orchestrator.dashboard.access import COOKIE
from metafleet.orchestrator.dashboard.forms import read_form
from metafleet.orchestrator.dashboard.site import site_of

Form = Mapping[str, str]
_RESUMABLE: Final = (RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.CANCELLED)


def action(
    act: Callable[[Request, Form], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Turn a function of a request and its form into a route that only signed-in browsers use.

    The function runs in a thread. It is not called without a sign-in, or if the form lacks the
    token of this browser.
    """

    @wraps(act)
    async def guarded(request: Request) -> Response:
        site = site_of(request)
        form = await read_form(request)
        cookie = request.cookies.get(COOKIE, "")
        if not site.access.is_form_token(form.get("token", ""), cookie):
            text = "the form has expired; go back, load the page again and repeat"
            if not site.access.password:
                text = "this dashboard is read-only; set METAFLEET_DASHBOARD_PASSWORD to act"
            return site.page(request, "failed.html", status=403, text=text)
        return await run_in_threadpool(act, request, form)

    return guarded


def _on_run(change: Callable[[Connection, int, Form], None]) -> Route:
    """Return a route that changes the run in its address, and then shows the run."""
    name = change.__name__.strip("_")

    @action
    def act(request: Request, form: Form) -> Response:
        run_id: int = request.path_params["run_id"]
        with site_of(request).database.session() as session:
            RunRepository(session).get(run_id)
            change(session, run_id, form)
        return RedirectResponse(f"/runs/{run_id}", 303)

    return Route(f"/runs/{{run_id:int}}/{name}", act, methods=["POST"])


def _cancel(session: Connection, run_id: int, form: Form) -> None:
    RunRepository(session).cancel(run_id)


def _resume(session: Connection, run_id: int, form: Form) -> None:
    """Put a run back into the queue; a server continues it from its last checkpoint."""
    run = RunRepository(session).get(run_id)
    if run.status not in _RESUMABLE:
        expected = ", ".join(_RESUMABLE)
        raise ConfigError(f"run {run_id} is {run.status}; expected one that is {expected}")
    RunRepository(session).mark_status(run_id, RunStatus.QUEUED)


def _tag(session: Connection, run_id: int, form: Form) -> None:
    """Replace the tags by the words of the form."""
    notes = RunNotes(session)
    wanted = form.get("tags", "").split()
    known = notes.tags([run_id]).get(run_id, ())
    notes.add_tags(run_id, wanted)
    notes.remove_tags(run_id, [tag for tag in known if tag not in wanted])


def _note(session: Connection, run_id: int, form: Form) -> None:
    RunNotes(session).set_note(run_id, form.get("note", "").replace("\r\n", "\n"))


def _archive(session: Connection, run_id: int, form: Form) -> None:
    RunNotes(session).set_archived(run_id, form.get("archived") == "1")


ROUTES: Final = tuple(map(_on_run, (_cancel, _resume, _tag, _note, _archive)))
