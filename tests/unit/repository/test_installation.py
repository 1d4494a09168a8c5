import os
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.paths import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PACKAGES = ("metafleet", "contracts", "workers", "orchestrator", "db", "experiments")


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().split()
    return {canonical(line.split("==")[0]): line for line in lines}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # needed on another Python only
        return []


def required() -> set[str]:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(r for extra in extras for r in extra)]
    names = {canonical(re.split(r"[\[<>=~!; ]", r)[0]) for r in requirements}
    return names - {"metafleet"}


def outside_of_make() -> dict[str, str]:
    """Give the environment that a person has who types make; `make test` sets more."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def run_make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=REPOSITORY,
        env=outside_of_make(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_every_constraint_pins_one_exact_public_version() -> None:
    for line in pins().values():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line


def test_every_dependency_is_pinned() -> None:
    assert required() <= pins().keys()


@pytest.mark.parametrize("python", ["3.11.2", "3.11.9", "3.12.0", "3.13.0", "3.14.0"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_dependencies_of_pinned_packages_are_pinned(python: str, platform: str) -> None:
    environment = {
        "extra": "",
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "sys_platform": platform,
        "platform_system": platform.capitalize(),
    }
    for name in pins():
        for text in requirements_of(name):
            requirement = Requirement(text)
            if re.match(r"nvidia|cuda|triton", requirement.name):
                continue  # torch itself says which
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert canonical(requirement.name) in pins(), f"{name} needs {text}"


def test_the_pins_bring_no_cuda_packages() -> None:
    assert not [name for name in pins() if re.match(r"nvidia|cuda|triton", name)]


def test_data_files_of_the_packages_are_packaged() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    files = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.*")]
    others = [path.name for path in files if path.suffix not in (".py", ".pyc")]

    assert others
    for name in others:
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_make_lists_its_commands() -> None:
    listed = run_make("help").stdout

    for target in ("demo", "test", "test-all", "lint", "types", "layers", "check", "clean", "env"):
        assert f"make {target} " in listed


def test_an_unusable_interpreter_is_refused_in_one_line() -> None:
    refused = run_make("venv", "PYTHON=/nonexistent/python")

    complaint, make_error = refused.stderr.splitlines()
    assert complaint.startswith("PYTHON=/nonexistent/python does not run or is older than 3.11")
    assert "make: ***" in make_error
    assert refused.returncode == 2


def test_continuous_integration_is_a_valid_script_that_runs_every_check() -> None:
    script = REPOSITORY / ".ci" / "run"

    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)

    text = script.read_text()
    assert script.stat().st_mode & 0o111
    assert 'make "${CI_TESTS:-test}"' in text
    assert "for target in lint types layers" in text
