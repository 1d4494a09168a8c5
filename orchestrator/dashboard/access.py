"""Who may see pages and act: a password, signed cookies, and tokens in forms."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

COOKIE: Final = "metafleet"
SIGNED_IN_S: Final = 7 * 24 * 3600
"""How long a sign-in is valid."""


@dataclass(frozen=True)
class Access:
    """The password and what is signed with it.

    Without a password, everyone who reaches the dashboard sees its pages, and no one can act. With
    a password, both need a sign-in.

    The key is derived from the password. So a sign-in outlasts a restart of the dashboard, and a
    new password ends all sign-ins.
    """

    password: str = field(default="", repr=False)

    def sign_in(self, password: str) -> str | None:
        """Return the value of a new cookie if the password is right, else None."""
        given, own = (hashlib.sha256(text.encode()).digest() for text in (password, self.password))
        if not self.password or not hmac.compare_digest(given, own):
            return None
        value = f"{int(time.time()) + SIGNED_IN_S}.{secrets.token_urlsafe(16)}"
        return f"{value}.{self._sign('cookie', value)}"

    def is_signed_in(self, cookie: str) -> bool:
        """Return whether a cookie is ours and has not expired."""
        value, _, signature = cookie.rpartition(".")
        expires = value.partition(".")[0]
        if not self.password or not expires.isdecimal() or not cookie.isascii():
            return False
        is_ours = hmac.compare_digest(signature, self._sign("cookie", value))
        return is_ours and len(expires) < 20 and int(expires) > time.time()

    def form_token(self, cookie: str) -> str:
        """Return the token that forms of a signed-in browser carry; "" without a sign-in."""
        return self._sign("form", cookie) if self.is_signed_in(cookie) else ""

    def is_form_token(self, token: str, cookie: str) -> bool:
        """Return whether a form's token belongs to the cookie of the same browser."""
        expected = self.form_token(cookie)
        return bool(expected) and token.isascii() and hmac.compare_digest(token, expected)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose} {text}".encode(), "sha256").hexdigest()

    @cached_property
    def _key(self) -> bytes:
        salt = b"metafleet dashboard"
        return hashlib.scrypt(self.password.encode(), salt=salt, n=2**14, r=8, p=1)
