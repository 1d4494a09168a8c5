"""Settings: who wins, what is refused, and that secrets stay secret."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metafleet.contracts.settings import (
    Settings,
    child_environment,
    make_folder,
    orchestrator_environment,
)
from metafleet.errors import ConfigError
from metafleet.passwords import redact_url

SECRETS = {
    "METAFLEET_BROKER_URL": "redis://:broker-secret@host:6379/0",
    "METAFLEET_BLOBS_URL": "redis://:blobs-secret@host:6380/0",
    "METAFLEET_DATABASE_URL": "postgresql://u:database-secret@host/db",
    "METAFLEET_SIGNING_KEY": "signing-secret",
}


def write_stack(home: Path, **stack: object) -> None:
    (home / "stack.json").write_text(json.dumps(stack))


def load(home: Path, **environ: str) -> Settings:
    return Settings.load({"METAFLEET_HOME": str(home), **environ})


def test_an_empty_environment_gives_a_home_under_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    settings = Settings.load({})

    home = tmp_path / ".metafleet"
    assert settings.home == home
    assert settings.database_url == f"sqlite:///{home}/metafleet.db"
    assert (settings.broker_url, settings.blobs_url, settings.signing_key) == (None, None, "")
    assert (settings.data_dir, settings.heartbeat_dir) == (home / "data", home / "heartbeats")
    assert (settings.device, settings.allowed_packages) == ("auto", ())
    assert (settings.runs_dir, settings.stack_file) == (home / "runs", home / "stack.json")


def test_the_environment_beats_the_stack_file_which_beats_the_default(tmp_path: Path) -> None:
    write_stack(tmp_path, broker_url="redis://stack/0", signing_key="stack-key", pid=7)

    settings = load(tmp_path, METAFLEET_SIGNING_KEY="environment-key")

    assert (settings.broker_url, settings.signing_key) == ("redis://stack/0", "environment-key")
    assert load(tmp_path).signing_key == "stack-key"


def test_a_broker_of_the_environment_is_not_paired_with_parts_of_the_stack(tmp_path: Path) -> None:
    write_stack(
        tmp_path, broker_url="redis://s/0", blobs_url="redis://s/1", signing_key="stack-key"
    )

    settings = load(tmp_path, METAFLEET_BROKER_URL="redis://environment/0")

    assert settings.broker_url == settings.blobs_url == "redis://environment/0"
    assert settings.signing_key == ""


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    settings = load(tmp_path, METAFLEET_BROKER_URL="", METAFLEET_DEVICE="")

    assert (settings.broker_url, settings.device) == (None, "auto")


def test_blobs_go_to_the_broker_unless_said_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path, METAFLEET_BROKER_URL="redis://a/0").blobs_url == "redis://a/0"
    assert load(tmp_path, METAFLEET_BLOBS_URL="redis://b/0").blobs_url == "redis://b/0"


def test_relative_folders_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"METAFLEET_DATA_DIR": "data", "METAFLEET_HEARTBEAT_DIR": "beats"}

    settings = Settings.load({"METAFLEET_HOME": "home", **folders})

    assert settings.home == tmp_path / "home"
    assert (settings.data_dir, settings.heartbeat_dir) == (tmp_path / "data", tmp_path / "beats")


def test_allowed_packages_are_separated_by_commas(tmp_path: Path) -> None:
    settings = load(tmp_path, METAFLEET_ALLOWED_PACKAGES=" mine, ,yours ,")

    assert settings.allowed_packages == ("mine", "yours")


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:1"])
def test_an_unknown_device_is_refused_naming_the_known_ones(tmp_path: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"METAFLEET_DEVICE='{device}'; .* auto, cpu, cuda"):
        load(tmp_path, METAFLEET_DEVICE=device)


@pytest.mark.parametrize(
    "name", ["METAFLEET_HOME", "METAFLEET_DATA_DIR", "METAFLEET_HEARTBEAT_DIR"]
)
def test_the_home_of_an_unknown_user_is_refused(tmp_path: Path, name: str) -> None:
    environ = {"METAFLEET_HOME": str(tmp_path), name: "~no-such-user/x"}

    with pytest.raises(ConfigError, match=f"{name}='~no-such-user/x'"):
        Settings.load(environ)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"broker_url": 5}', b'{"signing_key": ["geheim"]}'],
)
def test_a_broken_stack_file_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stack.json").write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load(tmp_path)

    assert str(tmp_path / "stack.json") in str(caught.value)
    assert "delete it" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_stack_file_that_is_a_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "stack.json").mkdir()

    with pytest.raises(ConfigError, match=r"stack\.json cannot be read"):
        load(tmp_path)


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, **SECRETS)

    assert settings.signing_key == "signing-secret"
    assert not any(name in repr(settings) for name in ("-secret", "redis:", "postgresql:"))


def test_a_worker_gets_these_settings_but_not_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METAFLEET_DEVICE", "cuda")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    settings = replace(
        load(tmp_path, **SECRETS, METAFLEET_ALLOWED_PACKAGES="mine,yours"),
        broker_url="redis://other/0",
        device="cpu",
    )

    environment = child_environment(settings)

    assert "database-secret" not in "".join(environment.values())
    assert environment["SOMETHING_ELSE"] == "kept"
    assert Settings.load(environment) == replace(
        settings, database_url=f"sqlite:///{tmp_path}/metafleet.db"
    )


def test_a_worker_does_not_inherit_what_these_settings_leave_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLEET_SIGNING_KEY", "of this process")

    assert "METAFLEET_SIGNING_KEY" not in child_environment(load(tmp_path))


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", "the folder of logs")

    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("folder", ["/proc/nope", "/proc"])
def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(folder: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^the folder of logs {folder} cannot .* METAFLEET_HOME"
    ):
        make_folder(Path(folder), "the folder of logs")


def test_a_file_where_a_folder_should_be_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")

    assert load(tmp_path / "home").home == tmp_path / "home"
    for folder in (tmp_path / "home", tmp_path / "home" / "logs"):
        with pytest.raises(ConfigError, match=rf"the folder {folder} cannot .* METAFLEET_HOME"):
            make_folder(folder, "the folder")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:geheim@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://user:geheim@host/0", "redis://user:***@host/0"),
        ("redis://:ge@he:i/m#?@host/0", "redis://:***@host/0"),
        ("unix://:geheim@/run/redis.sock", "unix://:***@/run/redis.sock"),
        ("redis://host/0?password=geheim&db=1", "redis://host/0?password=***&db=1"),
        ("redis://host/0?db=1&PASSWORD=geheim", "redis://host/0?db=1&PASSWORD=***"),
        ("redis://host?password=ge#heim&db=1", "redis://host?password=***&db=1"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("sqlite:////home/x.db", "sqlite:////home/x.db"),
        ("no url at all", "no url at all"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@given(st.text(st.characters(exclude_characters="*\n\r", categories=("L", "N", "P", "S"))))
def test_no_password_survives_in_a_shown_url(password: str) -> None:
    assert redact_url(f"redis://user:{password}@host:6379/0") == "redis://user:***@host:6379/0"


@pytest.mark.parametrize("value", ["prepare", "always", "never", ""])
def test_weights_are_fetched_at_preparation_unless_told_otherwise(value: str) -> None:
    settings = Settings.load({"METAFLEET_FETCH_WEIGHTS": value})

    assert settings.fetch_weights == (value or "prepare")
    assert child_environment(settings)["METAFLEET_FETCH_WEIGHTS"] == settings.fetch_weights


def test_another_word_for_fetching_is_refused() -> None:
    with pytest.raises(ConfigError, match="METAFLEET_FETCH_WEIGHTS='yes'; expected one of prepare"):
        Settings.load({"METAFLEET_FETCH_WEIGHTS": "yes"})


def test_days_are_a_whole_number() -> None:
    settings = Settings.load({"METAFLEET_RECEIVED_DAYS": "3"})

    assert settings.received_days == 3 and Settings.load({}).received_days == 14
    assert child_environment(settings)["METAFLEET_RECEIVED_DAYS"] == "3"
    for wrong in ("0", "-1", "1.5", "a week", "9" * 5000):
        with pytest.raises(ConfigError, match=r"METAFLEET_RECEIVED_DAYS=.*; expected a whole num"):
            Settings.load({"METAFLEET_RECEIVED_DAYS": wrong})


def test_the_folder_of_a_target_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"METAFLEET_HOME": str(tmp_path), "METAFLEET_TRACK": "tensorboard:logs, other"}
    settings = Settings.load(environ)

    assert settings.track == (f"tensorboard:{tmp_path}/logs", "other")
    passed_on = orchestrator_environment(settings)["METAFLEET_TRACK"]
    assert Settings.load(environ | {"METAFLEET_TRACK": passed_on}).track == settings.track
