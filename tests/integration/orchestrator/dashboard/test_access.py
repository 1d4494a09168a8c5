import http.client
import re
import time
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

import pytest

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.db.records import RunStatus
from metafleet.db.repositories import RunRepository
from metafleet.orchestrator.dashboard.access import Access
from metafleet.orchestrator.dashboard.guard import HostNames
from tests.dashboard import Served, serve
from tests.dashboard_runs import HOSTILE, add_run

PASSWORD = "correct horse"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def locked(settings: Settings) -> Iterator[Served]:
    """A dashboard with a password and one running run."""
    with (
        Database.open(settings.database_url) as database,
        serve(database, settings, password=PASSWORD) as found,
    ):
        add_run(database, status=RunStatus.RUNNING, steps=7)
        yield found


def ask(
    served: Served, path: str, *, form: dict[str, str] | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, str]:
    """Send one request; POST if there is a form. Underscores of header names become hyphens."""
    address = urlsplit(served.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if form is None:
        connection.request("GET", path, headers=sent)
    else:
        connection.request("POST", path, urlencode(form), {"content-type": FORM, **sent})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return found


def sign_in(served: Served) -> str:
    """Sign in and return the Cookie header of the browser."""
    status, headers, _ = ask(served, "/sign-in?next=/runs/1", form={"password": PASSWORD})
    assert (status, headers["location"]) == (303, "/runs/1")
    assert {"HttpOnly", "SameSite=strict"} <= set(headers["set-cookie"].split("; "))
    return headers["set-cookie"].split(";")[0]


def status_of(served: Served) -> RunStatus:
    with served.database.session(read_only=True) as session:
        return RunRepository(session).get(1).status


def test_headers_forbid_inline_scripts_and_frames(served: Served) -> None:
    for path in ("/", "/static/base.css", "/nothing", "/sign-in"):
        _, headers, _ = ask(served, path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/?group=1&baseline=1", "/runs/1", "/compare?run=1&run=2"])
def test_no_page_has_inline_scripts_or_styles(served: Served, path: str) -> None:
    for _ in range(2):
        add_run(served.database, name=HOSTILE, status=RunStatus.FAILED, error=HOSTILE)
    status, _, text = ask(served, path)
    assert status == 200
    assert "<img" not in text
    assert not re.search(
        r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=\w", text.replace("onerror=alert", "")
    )
    assert "&lt;script&gt;" in text


def test_other_host_names_are_refused(served: Served) -> None:
    assert ask(served, "/", host="evil.example")[0] == 421
    assert ask(served, "/", host="evil.example:80")[0] == 421
    assert ask(served, "/", host="[::1")[0] == 421
    assert ask(served, "/", host="localhost:1")[0] == 200


def test_addresses_are_host_names_only_of_a_dashboard_for_other_machines() -> None:
    local, public = HostNames.of("127.0.0.1"), HostNames.of("0.0.0.0", ["lab.example"])
    assert not local.accepts("192.168.1.7:8050")
    assert public.accepts("192.168.1.7:8050")
    assert public.accepts("LAB.example")
    assert not public.accepts("other.example")
    assert not public.accepts("192.168.1.7.evil.example")


def test_without_a_sign_in_there_is_nothing_to_see(locked: Served) -> None:
    status, headers, _ = ask(locked, "/runs/1?from=2")
    assert (status, headers["location"]) == (303, "/sign-in?next=%2Fruns%2F1%3Ffrom%3D2")
    for path in ("/events", "/runs/1/curves.json"):
        assert ask(locked, path)[0] == 401
    assert ask(locked, "/static/base.css")[0] == 200
    assert ask(locked, "/static/../app.py")[0] == 404


def test_a_wrong_password_is_refused_slowly(locked: Served) -> None:
    started = time.monotonic()
    status, headers, text = ask(locked, "/sign-in", form={"password": "wrong"})
    assert (status, headers["set-cookie"]) == (403, None)
    assert "this is not the password" in text
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example"])
def test_a_sign_in_leads_to_no_other_site(locked: Served, target: str) -> None:
    path = f"/sign-in?{urlencode({'next': target})}"
    assert ask(locked, path, form={"password": PASSWORD})[1]["location"] == "/"


def test_an_action_needs_the_token_of_the_form(locked: Served) -> None:
    cookie = sign_in(locked)
    value = cookie.partition("=")[2]
    token = locked.site.access.form_token(value)
    path = "/runs/1/cancel"
    assert ask(locked, path, form={"token": token})[0] == 401
    assert ask(locked, path, form={}, cookie=cookie)[0] == 403
    assert ask(locked, path, form={"token": "é" * 64}, cookie=cookie)[0] == 403
    other = locked.site.access.sign_in(PASSWORD)
    assert other is not None
    foreign = locked.site.access.form_token(other)
    assert ask(locked, path, form={"token": foreign}, cookie=cookie)[0] == 403
    good = {"cookie": cookie, "origin": "http://evil.example"}
    assert ask(locked, path, form={"token": token}, **good)[0] == 403
    assert status_of(locked) is RunStatus.RUNNING
    status, headers, _ = ask(locked, path, form={"token": token}, cookie=cookie, origin=locked.url)
    assert (status, headers["location"]) == (303, "/runs/1")
    assert status_of(locked) is RunStatus.CANCELLED


def test_without_a_password_no_one_acts(served: Served) -> None:
    add_run(served.database, status=RunStatus.RUNNING, steps=7)
    status, _, text = ask(served, "/runs/1/cancel", form={"token": ""})
    assert status == 403
    assert "read-only" in text
    assert ask(served, "/sign-in", form={"password": ""})[0] == 403
    assert status_of(served) is RunStatus.RUNNING
    assert '<form method="post"' not in ask(served, "/runs/1")[2]


def test_a_wrong_action_is_one_line(locked: Served) -> None:
    cookie = sign_in(locked)
    token = locked.site.access.form_token(cookie.partition("=")[2])
    for path, form, expected in (
        ("/runs/1/resume", {}, "run 1 is running; expected one that is failed"),
        ("/runs/1/tag", {"tags": "x" * 65}, "expected 1 to 64; no tag was set"),
        ("/runs/1/note", {"note": "x" * 10_001}, "expected at most 10000"),
        ("/runs/1/note", {"note": "x" * 70_000}, "expected at most 65536 bytes"),
        ("/runs/99/cancel", {}, "no run 99"),
    ):
        status, _, text = ask(locked, path, form={"token": token, **form}, cookie=cookie)
        assert status in (400, 404)
        assert expected in text
        assert "Traceback" not in text


def test_a_cookie_is_valid_only_unchanged_and_until_it_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = Access(PASSWORD)
    cookie = access.sign_in(PASSWORD)
    assert cookie is not None
    assert access.is_signed_in(cookie)
    assert Access(PASSWORD).is_signed_in(cookie)  # after a restart
    assert not Access("another").is_signed_in(cookie)
    later = str(int(cookie.split(".")[0]) + 1)
    assert not access.is_signed_in(".".join((later, *cookie.split(".")[1:])))
    for bad in ("", ".", "1.2.3", "é.é.é", cookie + "0", f"{'9' * 5000}.a.b"):
        assert not access.is_signed_in(bad)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)
    assert not access.is_signed_in(cookie)


def test_secrets_are_not_in_the_text_of_objects() -> None:
    assert PASSWORD not in repr(Access(PASSWORD))
    environ = {"METAFLEET_DASHBOARD_PASSWORD": PASSWORD}
    assert PASSWORD not in repr(Settings.load(environ))
