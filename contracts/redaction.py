"""Removes secrets from text that is logged, stored in the database or shown."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from metafleet.contracts.settings import Settings, secret_variables
from metafleet.passwords import redact_urls

_HIDDEN: Final = "***"
_SHORTEST: Final = 4
"""Shorter secrets are not searched for: they occur in ordinary words. URLs hide them anyway."""


class Redactor:
    """Replaces secrets in text by ``***``.

    Args:
        secrets: the secrets. In addition, the password of every URL is replaced.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= _SHORTEST}
        longest_first = sorted(known, key=len, reverse=True)  # one may begin with another
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    @classmethod
    def of(cls, settings: Settings) -> "Redactor":
        """Return a redactor of the secrets in the settings and in the environment."""
        urls = (settings.database_url, settings.broker_url, settings.blobs_url)
        found = {settings.signing_key, settings.dashboard_password, *secret_variables()}
        for url in urls:
            found |= _passwords(url or "")
        return cls(found)

    def __call__(self, text: str) -> str:
        """Return ``text`` without secrets."""
        text = redact_urls(text)
        return self._known.sub(_HIDDEN, text) if self._known is not None else text


def _passwords(url: str) -> set[str]:
    """Return the passwords in a URL, as written there and decoded."""
    try:
        parts = urlsplit(url)
        written = {parts.password or "", *parse_qs(parts.query).get("password", ())}
    except ValueError:
        return set()
    return written | {unquote(password) for password in written}
