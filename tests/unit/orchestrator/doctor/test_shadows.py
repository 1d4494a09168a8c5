"""A ``metafleet`` of the user's that hides ours is found."""

from pathlib import Path

import pytest

from metafleet.orchestrator.doctor.finding import Severity
from metafleet.orchestrator.doctor.machine import find_shadows
from tests.fleet import ROOT


@pytest.mark.parametrize("name", ["metafleet.py", "metafleet/__init__.py"])
def test_a_module_in_the_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()

    (finding,) = find_shadows(tmp_path, [str(ROOT)])

    assert finding.severity is Severity.WARN
    assert f"{tmp_path / name.partition('/')[0]} would be imported" in finding.text
    assert "`metafleet worker`" in finding.remedy


@pytest.mark.parametrize(
    ("before", "n_found"), [(True, 1), (False, 0)], ids=["before ours", "after ours"]
)
def test_a_folder_of_the_search_path_hides_ours_when_it_comes_first(
    tmp_path: Path, before: bool, n_found: int
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "metafleet.py").touch()
    path = [str(elsewhere), str(ROOT)] if before else [str(ROOT), str(elsewhere)]

    assert len(find_shadows(tmp_path, path)) == n_found


def test_our_own_folder_and_packages_of_other_names_hide_nothing(tmp_path: Path) -> None:
    for name in ("workers", "db", "contracts", "orchestrator", "experiments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()

    assert find_shadows(ROOT, [str(ROOT)]) == []
    assert find_shadows(tmp_path, [str(ROOT)]) == []
