"""The page on which a browser gives a few labelled files and a query, and sees predictions."""

import asyncio
import hmac
from itertools import groupby
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.errors import ConfigError
from metafleet.orchestrator.dashboard.access import COOKIE
from metafleet.orchestrator.dashboard.site import Site, site_of
from metafleet.orchestrator.dashboard.trying import upload as limits
from metafleet.orchestrator.dashboard.trying.bases import Base, list_bases
from metafleet.orchestrator.dashboard.trying.trial import Trial
from metafleet.orchestrator.dashboard.trying.upload import Upload, check_length, read_upload

_READING_S: Final = 60.0
_BUSY: Final = "another computation is running; try again when it has ended"


def show_try(request: Request) -> Response:
    """Show the form."""
    site, trial = site_of(request), _trial(request)
    bases = groupby(_bases(site, trial), key=lambda base: base.group)
    return site.page(
        request,
        "try.html",
        groups=[(group, list(found)) for group, found in bases],
        limits=limits,
        token=_token(site, trial, request),
    )


async def answer(request: Request) -> Response:
    """Compute, and return the predictions as a part of a page."""
    site, trial = site_of(request), _trial(request)
    try:
        token = _token(site, trial, request)
        given = request.headers.get("x-form-token", "").encode("latin-1")
        if not token or not hmac.compare_digest(given, token.encode()):
            return _refused(request, "the form has expired; load the page again and repeat", 403)
        check_length(request.headers.get("content-length", ""))
        if trial.busy.locked():
            return _refused(request, _BUSY, 409)
        async with trial.busy:
            upload = await _read(request)
            base = await run_in_threadpool(_get_base, site, trial, upload.base)
            found = await trial.compute(upload, base.request)
    except ConfigError as error:
        return _refused(request, str(error), 400)
    numbers = upload.queries
    names = [one.name for one in upload.files if one.place.startswith("query/")]
    rows = [row | {"number": numbers[row["item"]]} for row in found["rows"]]
    return site.page(
        request, "try_answer.html", found=found, rows=rows, names=names, base=base, problem=""
    )


async def _read(request: Request) -> Upload:
    try:
        async with asyncio.timeout(_READING_S):
            return await read_upload(request.stream())
    except TimeoutError as error:
        raise ConfigError(
            f"the files did not arrive within {_READING_S:.0f} s; give fewer or smaller ones"
        ) from error


def _refused(request: Request, problem: str, status: int) -> Response:
    return site_of(request).page(request, "try_answer.html", status=status, problem=problem)


def _token(site: Site, trial: Trial, request: Request) -> str:
    """Return the token that a browser's form must carry; "" if it has to sign in."""
    if not site.access.password:
        return trial.token
    return site.access.form_token(request.cookies.get(COOKIE, ""))


def _trial(request: Request) -> Trial:
    trial = site_of(request).trial
    assert trial is not None  # without it there is no route
    return trial


def _bases(site: Site, trial: Trial) -> list[Base]:
    with site.read() as session:
        return list_bases(session, trial.models)


def _get_base(site: Site, trial: Trial, key: str) -> Base:
    for base in _bases(site, trial):
        if base.key == key:
            return base
    raise ConfigError(f"there is no model {key!r:.80} to choose; load the page again")


ROUTES: Final = (Route("/try", show_try), Route("/try", answer, methods=["POST"]))
