"""The state of a view, which is in the URL: reading it, and links that change it."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request

MOST: Final = 2**31 - 1
"""The greatest number of a step that databases can compare with."""

_FALLING: Final = ("created", "started", "finished", "steps", "best", "last", "test", "runs", "id")
"""Keys of which people want to see the greatest first."""


def whole(query: Mapping[str, str], name: str, *, otherwise: int, least: int, most: int) -> int:
    """Return a whole number of the URL, moved into its range; ``otherwise`` if it is none."""
    text = query.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return otherwise
    return min(max(int(text), least), most)


def changed(request: Request, **changes: str | int | None) -> str:
    """Return the address of the same view with some of its state changed; None removes a key.

    Every change but that of the page goes back to the first page.
    """
    kept = [(k, v) for k, v in request.query_params.multi_items() if k not in changes]
    if "page" not in changes:
        kept = [(k, v) for k, v in kept if k != "page"]
    kept += [(name, str(value)) for name, value in changes.items() if value not in (None, "")]
    return f"{request.url.path}?{urlencode(kept)}" if kept else request.url.path


def sorted_by(request: Request, key: str) -> str:
    """Return the address of the view sorted by a key; by the reverse if it is sorted by it."""
    current = request.query_params.get("sort", "")
    first = f"-{key}" if key in _FALLING else key
    second = key if key in _FALLING else f"-{key}"
    return changed(request, sort=second if current == first else first)


def order_of(request: Request, key: str) -> str:
    """Return the value of ``aria-sort`` for a column."""
    current = request.query_params.get("sort", "")
    return {key: "ascending", f"-{key}": "descending"}.get(current, "none")
