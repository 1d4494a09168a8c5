"""Missing data are skipped loudly at home, and are a failure in CI."""

from pathlib import Path

import pytest

from tests.shared_data import shared_data


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAFLEET_SHARED_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)]
)
def test_missing_data_are_skipped_or_fail_where_it_matters(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)

    with pytest.raises(outcome, match=r"no real data at .*omniglot; set METAFLEET_SHARED"):
        shared_data("omniglot")


def test_a_machine_that_is_said_to_have_none_skips_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("METAFLEET_SHARED_DATA", "none")

    with pytest.raises(pytest.skip.Exception, match="no real data"):
        shared_data("omniglot")


def test_data_that_are_there_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    (folder / "omniglot").mkdir()

    assert shared_data("omniglot") == folder / "omniglot"
