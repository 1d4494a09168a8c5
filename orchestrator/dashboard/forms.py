"""Reads submitted forms."""

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request

from metafleet.errors import ConfigError

_MOST_BYTES: Final = 2**16


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a submitted form.

    Raises:
        ConfigError: the form is too long or is not UTF-8.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise ConfigError(f"the form is too long; expected at most {_MOST_BYTES} bytes")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise ConfigError("the form cannot be read; expected UTF-8") from error
    return {name: values[-1] for name, values in fields.items()}
