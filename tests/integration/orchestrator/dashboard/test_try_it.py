import http.client
import io
import json
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from metafleet.contracts.settings import Settings
from metafleet.db.engine import Database
from metafleet.errors import ConfigError
from metafleet.orchestrator.dashboard.trying.trial import Trial
from metafleet.orchestrator.dashboard.trying.upload import MOST_BYTES, check_length, read_upload
from tests.dashboard import Served, check_page, serve, violations
from tests.fleet import wait_until
from tests.integration.orchestrator.conftest import home
from tests.integration.orchestrator.dashboard.test_command import read as fetch
from tests.integration.orchestrator.dashboard.test_command import started

__all__ = ["home"]

HOSTILE = "<img src=x onerror=alert(1)>"
TEXT = "encoder-text=package:wordllama"


@pytest.fixture
def trial(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A trial with its own folder of temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return Trial(settings)


@pytest.fixture
def trying(settings: Settings, trial: Trial) -> Iterator[Served]:
    """A dashboard with the page "Try it" and without a password."""
    with (
        Database.open(settings.database_url) as database,
        serve(database, settings, trial=trial) as found,
    ):
        yield found


def text(name: str, content: str) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": content.encode()}


def picture(name: str, colour: str) -> FilePayload:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(buffer, format="PNG")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def body(*, names: tuple[str, ...] = ("a", "b"), base: str = TEXT, size: int = 1) -> bytes:
    one = [{"name": "x.txt", "size": size}]
    line = {
        "base": base,
        "classes": [{"name": name, "files": one} for name in names],
        "queries": one,
    }
    return json.dumps(line).encode() + b"\n" + b"x" * size * (len(names) + 1)


def post(served: Served, content: bytes, **headers: str) -> tuple[int, str]:
    return post_to(served.url, content, **headers)


def post_to(url: str, content: bytes, **headers: str) -> tuple[int, str]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/try", content, sent)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def fill(page: Page, first: list[FilePayload], second: list[FilePayload]) -> None:
    page.get_by_label("Files of class 1", exact=True).set_input_files(first)
    page.get_by_label("Files of class 2", exact=True).set_input_files(second)


def test_texts_are_classified_by_a_pretrained_encoder(
    trying: Served, page: Page, tmp_path: Path
) -> None:
    check_page(page, f"{trying.url}/try")
    page.get_by_label("Model").select_option(TEXT)
    page.get_by_label("Name").first.fill(HOSTILE)
    fill(
        page,
        [text("1.txt", "rain and snow and wind"), text("2.txt", "a cloudy sky, storms")],
        [text("1.txt", "bread with butter"), text("2.txt", "soup and a salad")],
    )
    page.get_by_label("Files to classify").set_input_files(
        [text("weather.txt", "sun, rain and wind"), text(f"{HOSTILE}.txt", "butter, soup, bread")]
    )
    page.get_by_role("button", name="Adapt and predict").focus()
    page.keyboard.press("Enter")
    cards = page.locator("#answer article")
    expect(cards).to_have_count(2, timeout=90_000)
    expect(cards.nth(0).locator("b")).to_have_text(HOSTILE)
    expect(cards.nth(1).locator("b")).to_have_text("class 2")
    expect(cards.nth(1).locator("h3")).to_have_text(f"{HOSTILE}.txt")
    expect(page.locator("#answer")).to_contain_text("not calibrated")
    assert violations(page) == []
    assert list((tmp_path / "temporary").glob("metafleet-try-*")) == []


def test_a_bad_file_is_one_line(trying: Served, page: Page, tmp_path: Path) -> None:
    page.goto(f"{trying.url}/try")
    broken: FilePayload = {"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"}
    fill(page, [picture("red.png", "red")], [broken])
    page.get_by_label("Files to classify").set_input_files([picture("red.png", "red")])
    page.get_by_role("button", name="Adapt and predict").click()
    alert = page.locator("#answer").get_by_role("alert")
    expect(alert).to_contain_text("bad.png", timeout=90_000)
    assert "metafleet-try-" not in (alert.text_content() or "")
    assert "Traceback" not in (alert.text_content() or "")
    assert list((tmp_path / "temporary").glob("metafleet-try-*")) == []


def test_classes_are_added_and_files_are_dropped(trying: Served, page: Page) -> None:
    page.goto(f"{trying.url}/try")
    page.get_by_role("button", name="Add a class").click()
    expect(page.locator("#name-3")).to_be_focused()
    page.locator("#classes .drop").nth(2).evaluate(
        """box => { for (const name of ["a.txt", "b.txt"]) {
            const given = new DataTransfer();
            given.items.add(new File(["x"], name, {type: "text/plain"}));
            box.dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true}));
        } }"""
    )
    expect(page.locator("#classes .given").nth(2).locator("li")).to_have_text(["a.txt", "b.txt"])
    assert page.locator("#files-3").evaluate("input => input.files.length") == 2
    for _ in range(7):
        page.get_by_role("button", name="Add a class").click()
    expect(page.get_by_role("button", name="Add a class")).to_be_disabled()
    assert violations(page) == []


def test_only_a_form_of_this_page_is_answered(trying: Served, trial: Trial) -> None:
    for token in ({}, {"x_form_token": "é"}, {"x_form_token": trial.token + "0"}):
        assert post(trying, body(), **token)[0] == 403
    foreign = {"x_form_token": trial.token, "origin": "http://evil.example"}
    assert post(trying, body(), **foreign)[0] == 403
    status, answer = post(trying, body(base="model-/etc"), x_form_token=trial.token)
    assert status == 400
    assert "there is no model" in answer


def test_one_computation_at_a_time(
    trying: Served, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.busy, "locked", lambda: True)
    status, answer = post(trying, body(), x_form_token=trial.token)
    assert status == 409
    assert "another computation is running" in answer


def test_without_the_option_there_is_no_such_page(served: Served) -> None:
    assert post(served, body())[0] in (404, 405)


@pytest.mark.parametrize("length", ["", "x", "-1", "9" * 13, str(MOST_BYTES + 1)])
def test_a_wrong_length_is_refused_before_anything_is_read(length: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        check_length(length)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "cannot be read"),
        (b"[1]\n", "cannot be read"),
        (b"[" * 50_000 + b"\n", "cannot be read"),
        (body(names=("a",)), "1 classes have files; expected 2 to 10"),
        (body(names=("a", "a")), "two classes are called 'a'"),
        (body(names=("../up", "b")), "without '/'"),
        (body(names=("..", "b")), "no '.' at the start"),
        (body(names=("", "b")), "expected 1 to 60 characters"),
        (body(names=tuple("abcdefghijk")), "expected 2 to 10"),
        (body(size=9 << 20), "expected at most 8 MiB"),
        (body()[:-1], "did not arrive as a whole"),
        (b"x" * (MOST_BYTES + 1), "expected at most 32 MiB"),
    ],
)
def test_a_wrong_body_is_one_line(content: bytes, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        read(content)
    assert "\n" not in str(error.value)


def test_names_of_files_cannot_leave_the_folder(tmp_path: Path) -> None:
    line: dict[str, Any] = json.loads(body().partition(b"\n")[0])
    line["queries"] = [{"name": "../../../etc/passwd.txt", "size": 1}]
    upload = read(json.dumps(line).encode() + b"\nxyz")
    upload.write(tmp_path / "given")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
    files = [path for path in (tmp_path / "given").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert sorted(path.read_bytes() for path in files) == [b"x", b"y", b"z"]
    assert all(os.path.commonpath([path, tmp_path / "given"]) for path in files)


def read(content: bytes) -> Any:
    """Read a body in two parts."""

    async def parts() -> Any:
        yield content[:7]
        yield content[7:]

    coroutine = read_upload(parts())
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for more")


def test_a_signal_ends_a_computation_without_a_trace(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of the server
    with started("dashboard", "--port", "0", "--try", home=home) as (process, url):
        found = re.search(r'data-token="([^"]+)"', fetch(f"{url}try"))
        assert found is not None
        served = url.rstrip("/")
        answers: list[tuple[int, str]] = []
        thread = threading.Thread(
            target=lambda: answers.append(post_to(served, body(), x_form_token=found[1]))
        )
        thread.start()
        wait_until(lambda: list(tmp_path.glob("metafleet-try-*/query/*")), "it computes")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        thread.join(20)
        assert process.stdout is not None
        assert process.stdout.read().strip() == "interrupted"
    assert [status for status, _ in answers] == [400]
    assert list(tmp_path.glob("metafleet-try-*")) == []
