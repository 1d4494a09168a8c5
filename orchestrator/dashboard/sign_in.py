"""Signing in and out."""

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metafleet.orchestrator.dashboard.access import COOKIE, SIGNED_IN_S
from metafleet.orchestrator.dashboard.forms import read_form
from metafleet.orchestrator.dashboard.site import site_of

_AFTER_WRONG_S: Final = 0.5
_MOST_WAITING: Final = 20
_attempts = asyncio.Semaphore(_MOST_WAITING)
_one_by_one = asyncio.Lock()


def show_form(request: Request) -> Response:
    """Show the form for the password."""
    return site_of(request).page(request, "sign_in.html", problem="", next=_next(request))


async def sign_in(request: Request) -> Response:
    """Set the cookie if the password is right. Wrong ones are answered slowly, one by one."""
    site = site_of(request)
    if _attempts.locked():
        return site.page(
            request, "sign_in.html", status=429, next=_next(request), problem="too many at a time"
        )
    async with _attempts:
        form = await read_form(request)
        async with _one_by_one:
            cookie = await asyncio.to_thread(site.access.sign_in, form.get("password", ""))
            if cookie is None:
                await asyncio.sleep(_AFTER_WRONG_S)
    if cookie is None:
        problem = "this is not the password" if site.access.password else "there is no password"
        return site.page(request, "sign_in.html", status=403, problem=problem, next=_next(request))
    response = RedirectResponse(_next(request), 303)
    is_secure = request.url.scheme == "https"
    response.set_cookie(
        COOKIE, cookie, max_age=SIGNED_IN_S, httponly=True, samesite="strict", secure=is_secure
    )
    return response


async def sign_out(request: Request) -> Response:
    """Remove the cookie."""
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _next(request: Request) -> str:
    """Return the page to show after the sign-in: one of this site."""
    target = request.query_params.get("next", "/")
    is_here = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_here and target.isprintable() else "/"


ROUTES: Final = (
    Route("/sign-in", show_form),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
)
