"""The pages of data sets: what is on this machine, and one data set with its classes and sheet.

``data_sets`` imports torch, so the first of these pages imports it, and not the server's start.
"""
# ruff: noqa: PLC0415

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metafleet.db.repositories.descriptions import DescriptionRepository
from metafleet.describing.description import VERSION, Description
from metafleet.errors import DataMissingError
from metafleet.orchestrator.dashboard.site import site_of
from metafleet.orchestrator.dashboard.view_state import whole
from metafleet.splits import META_TEST, META_TRAIN, META_VAL

if TYPE_CHECKING:
    from metafleet.orchestrator.dashboard.data_sets import FoundSet

CLASSES_ON_PAGE: Final = 100
_SPLITS: Final = (META_TRAIN, META_VAL, META_TEST)


def show_sets(request: Request) -> Response:
    """List the data sets."""
    from metafleet.orchestrator.dashboard.data_sets import find_sets

    site = site_of(request)
    found = find_sets(site.settings.data_dir)
    summaries = {one.name: one.summarise() for one in found}
    return site.page(request, "data_sets.html", found=found, summaries=summaries, splits=_SPLITS)


def show_set(request: Request) -> Response:
    """Show one data set."""
    from metafleet.describing.figures import KIND
    from metafleet.orchestrator.dashboard.data_sets import get_set
    from metafleet.orchestrator.dashboard.sheets import key_of_sheet

    site = site_of(request)
    found = get_set(site.settings.data_dir, request.path_params["name"])
    data, summary = found.data, found.summarise()
    with site.read() as session:
        descriptions = _descriptions(session, found)
    if data is None or summary is None:
        return site.page(
            request,
            "data_set.html",
            found=found,
            summary=None,
            descriptions=descriptions,
            kind=KIND,
        )
    split = request.query_params.get("split", "")
    if split not in summary.splits:
        split = next(iter(summary.splits))
    groups = {info.name: info.group for info in data.prepared.classes if info.group}
    classes = list(summary.splits[split].class_items.items())
    page = whole(
        request.query_params,
        "page",
        otherwise=1,
        least=1,
        most=max(1, -(-len(classes) // CLASSES_ON_PAGE)),
    )
    first = (page - 1) * CLASSES_ON_PAGE
    return site.page(
        request,
        "data_set.html",
        found=found,
        summary=summary,
        split=split,
        groups=groups,
        classes=classes[first : first + CLASSES_ON_PAGE],
        n_classes=len(classes),
        page=page,
        has_more=first + CLASSES_ON_PAGE < len(classes),
        sheet_key=key_of_sheet(data),
        descriptions=descriptions,
        kind=KIND,
    )


def show_sheet(request: Request) -> Response:
    """Return the contact sheet of a data set as PNG."""
    from metafleet.orchestrator.dashboard.data_sets import get_set

    site = site_of(request)
    found = get_set(site.settings.data_dir, request.path_params["name"])
    if found.data is None:
        raise DataMissingError(f"data set {found.name!r} has no items to draw; {found.hint}")
    picture = site.sheets.get(found.data)
    # the address of the picture changes with the data
    return Response(
        picture, media_type="image/png", headers={"cache-control": "private, max-age=86400"}
    )


def _descriptions(session: Connection, found: "FoundSet") -> Sequence[Description]:
    """Return the descriptions of these data; of data without a digest, those of the name."""
    records = DescriptionRepository(session).list(version=VERSION)
    digest = found.data.digest() if found.data else None
    return [
        Description.from_json(record.description)
        for record in records
        if (record.data_digest == digest if digest else record.options == found.options)
    ]


ROUTES: Final = (
    Route("/data", show_sets),
    Route("/data/{name}", show_set),
    Route("/data/{name}/sheet.png", show_sheet),
)
