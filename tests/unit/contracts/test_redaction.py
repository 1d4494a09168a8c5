"""Secrets are removed from text, however they got into it."""

from dataclasses import replace

import pytest

from metafleet.contracts.redaction import Redactor
from metafleet.contracts.settings import Settings


@pytest.fixture
def redact(monkeypatch: pytest.MonkeyPatch) -> Redactor:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws/secret+1")
    monkeypatch.setenv("WANDB_API_KEY", "wandb-4711")
    monkeypatch.setenv("MONKEY", "a plain word")
    settings = replace(
        Settings.load({}),
        broker_url="redis://user:pass%2Fword@host:6379/0",
        database_url="postgresql+psycopg://me:swordfish@db/metafleet",
        blobs_url="s3://bucket/x?password=query-secret",
        signing_key="signing-key-1",
    )
    return Redactor.of(settings)


@pytest.mark.parametrize(
    "secret",
    [
        "pass%2Fword",
        "pass/word",
        "swordfish",
        "query-secret",
        "signing-key-1",
        "aws/secret+1",
        "wandb-4711",
    ],
)
def test_a_secret_of_the_settings_or_the_environment_is_removed(
    redact: Redactor, secret: str
) -> None:
    assert redact(f"before {secret!r}\n{secret} after") == "before '***'\n*** after"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no redis://:x@h/0, no http://a:b:c@d/e", "no redis://:***@h/0, no http://a:***@d/e"),
        ("redis://h:6379/0 mail me@home", "redis://h:6379/0 mail me@home"),
        ("see ?a=1&password=q2 end", "see ?a=1&password=*** end"),
        ("a plain word at 10:30@noon", "a plain word at 10:30@noon"),
    ],
)
def test_passwords_of_other_urls_are_removed_and_the_rest_stays(text: str, expected: str) -> None:
    assert Redactor()(text) == expected


def test_a_secret_too_short_to_search_for_does_not_spoil_ordinary_text() -> None:
    redact = Redactor.of(replace(Settings.load({}), broker_url="redis://:a@host/0"))

    assert redact("a cat at redis://:a@host/0") == "a cat at redis://:***@host/0"


def test_of_two_secrets_the_longer_is_removed_whole() -> None:
    assert Redactor(["secret", "secret-long"])("secret-long secret") == "*** ***"
