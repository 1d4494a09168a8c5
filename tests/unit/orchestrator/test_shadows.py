"""Modules of the user's that hide ours are found, all in one finding."""

from pathlib import Path

import pytest

from orchestrator.doctor.finding import Severity
from orchestrator.doctor.shadows import find_shadows
from tests.fleet import ROOT


def test_packages_and_modules_in_the_folder_are_named_in_one_finding(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    (tmp_path / "db.py").touch()

    (finding,) = find_shadows(tmp_path, [str(ROOT)])

    assert finding.severity is Severity.WARN
    assert f"{tmp_path / 'db.py'}, {tmp_path / 'workers'} would be imported" in finding.text
    assert "`metafleet worker`" in finding.remedy


@pytest.mark.parametrize(
    ("before", "n_found"), [(True, 1), (False, 0)], ids=["before ours", "after ours"]
)
def test_a_folder_of_the_search_path_hides_ours_when_it_comes_first(
    tmp_path: Path, before: bool, n_found: int
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "contracts.py").touch()
    path = [str(elsewhere), str(ROOT)] if before else [str(ROOT), str(elsewhere)]

    assert len(find_shadows(tmp_path, path)) == n_found


def test_our_own_folder_and_one_without_a_package_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()  # of scripts, say

    assert find_shadows(ROOT, [str(ROOT)]) == []
    assert find_shadows(tmp_path, [str(ROOT)]) == []
