"""Removes the passwords of URLs from text."""

import re
from typing import Final

_HIDDEN: Final = "***"
_IN_URL: Final = re.compile(r"(://[^\s:/?#@\"']*):[^\s@\"']*@")
_TOKEN: Final = re.compile(r"(\bhttps?://)[^\s:/?#@\"']+@", re.IGNORECASE)
"""The user of a web address without a password is often a token."""
_IN_QUERY: Final = re.compile(r"([?&]password=)[^&\s\"']*", re.IGNORECASE)


def redact_url(url: str) -> str:
    """Hide the password of a URL in messages and logs. Accepts any text, even a broken URL."""
    # not urlsplit: with an unescaped "/" or "#", the password would be part of the path
    hidden = re.sub(r"(://[^:/?#@]*):.*@", rf"\1:{_HIDDEN}@", url, count=1)
    hidden = _TOKEN.sub(rf"\1{_HIDDEN}@", hidden)
    return re.sub(r"([?&]password=)[^&]*", rf"\1{_HIDDEN}", hidden, flags=re.IGNORECASE)


def redact_urls(text: str) -> str:
    """Hide the passwords of all URLs in a text, such as the message of an error."""
    hidden = _TOKEN.sub(rf"\1{_HIDDEN}@", _IN_URL.sub(rf"\1:{_HIDDEN}@", text))
    return _IN_QUERY.sub(rf"\1{_HIDDEN}", hidden)
