import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from metafleet import sources
from metafleet.sources import disk_digest, imported_digest, libraries_of, note_import, versions_of

Digest = Callable[[], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path that no other test has seen."""
    folder = tmp_path / "some_own_code"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("import numpy\nRATE = 1.0\n")
    (folder / "deep" / "net.py").write_text("  from scipy import stats\n")
    (folder / "kernel.so").write_bytes(b"\x7fELF one")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "_imported", {})
    sources._imported_by.cache_clear()
    sources._versions.cache_clear()
    return folder


def digest() -> str:
    return disk_digest("some_own_code")


@pytest.mark.parametrize("name", ["__init__.py", "deep/net.py", "kernel.so", "start.pt"])
def test_each_file_that_computes_is_covered(package: Path, name: str) -> None:
    before = digest()
    (package / name).write_bytes(b"RATE = 1.01\n")
    assert digest() != before
    assert len(before) == 16


@pytest.mark.parametrize(
    "name", ["__pycache__/net.cpython-311.pyc", "results.json", "README.md", ".git/hook.py"]
)
def test_files_that_a_run_may_write_next_to_its_code_do_not_change_the_digest(
    package: Path, name: str
) -> None:
    before = digest()
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text("written by a run")
    assert digest() == before


def test_a_file_that_moves_or_gives_bytes_to_the_next_changes_the_digest(package: Path) -> None:
    before = digest()
    (package / "deep" / "net.py").rename(package / "net.py")
    assert digest() != before


def test_the_place_of_a_package_does_not_count_and_links_are_followed(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    moved = tmp_path / "elsewhere" / "real"
    moved.parent.mkdir()
    package.rename(moved)
    package.mkdir()
    for path in moved.iterdir():
        (package / path.name).symlink_to(path)
    assert digest() == before

    (moved / "deep" / "round").symlink_to(package, target_is_directory=True)
    assert digest() == before, "a circle of links"
    (moved / "deep" / "net.py").write_text("other")
    assert digest() != before


def test_a_zip_file_has_the_digest_of_its_folder(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "kernel.so").unlink()  # cannot be imported from a zip file
    before = digest()
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(package.rglob("*.py"), reverse=True):
            packed.write(path, path.relative_to(tmp_path))
        packed.writestr("another.py", "not ours")
    monkeypatch.setattr(sys, "path", [str(archive), *sys.path])
    sys.path_importer_cache.clear()
    assert digest() == before


def test_a_single_module_and_a_namespace_package_have_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely_module.py").write_text("x = 1")
    for part in ("a", "b"):
        (tmp_path / part / "some_space").mkdir(parents=True)
        (tmp_path / part / "some_space" / f"{part}.py").write_text(part)
        monkeypatch.syspath_prepend(tmp_path / part)
    monkeypatch.syspath_prepend(tmp_path)
    alone, spaced = disk_digest("lonely_module"), disk_digest("some_space")

    (tmp_path / "lonely_module.py").write_text("x = 2")
    (tmp_path / "a" / "some_space" / "a.py").write_text("other")
    assert disk_digest("lonely_module") != alone
    assert disk_digest("some_space") != spaced


def test_what_has_no_files_is_said() -> None:
    assert disk_digest("there_is_no_such_package") == "absent"
    assert disk_digest("sys") == "built in"


def test_the_digest_is_of_what_was_imported_not_of_what_lies_on_disk_since(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_import("some_own_code")
    imported = imported_digest("some_own_code")
    monkeypatch.setitem(sys.modules, "some_own_code", sys)  # imported

    (package / "__init__.py").write_text("RATE = 1.01\n")
    note_import("some_own_code")
    assert imported_digest("some_own_code") == imported != digest()

    monkeypatch.delitem(sys.modules, "some_own_code")  # and imported again, as tests do
    note_import("some_own_code")
    assert imported_digest("some_own_code") == digest()


def test_libraries_that_a_package_imports_and_this_process_has_loaded_have_versions(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np  # noqa: PLC0415 - what the package is to have loaded

    monkeypatch.delitem(sys.modules, "scipy", raising=False)
    assert libraries_of("some_own_code") == {"numpy": np.__version__}


def test_a_helper_that_is_no_distribution_has_a_digest_for_a_version(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_helper.py").write_text("factor = 1.0")
    (package / "__init__.py").write_text("import some_helper\nimport os, torch, metafleet\n")
    monkeypatch.setitem(sys.modules, "some_helper", os)
    monkeypatch.delitem(sys.modules, "scipy", raising=False)  # of deep/net.py, not looked for here
    assert libraries_of("some_own_code") == {"some_helper": disk_digest("some_helper")}


def test_dependencies_of_a_library_count_as_well() -> None:
    assert {"scikit-learn", "numpy", "scipy"} == versions_of(["sklearn"]).keys()
