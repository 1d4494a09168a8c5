"""The generated pages are what the code says, and every public name is documented."""

import inspect
import re
from pathlib import Path

import pytest

import metafleet
from tests.pages import PAGES
from tests.pages.api import THEMES
from tests.paths import REPOSITORY

PUBLIC = (*metafleet.__all__, *metafleet._OF_FLEET)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_generated_page_is_that_of_the_code(page: Path) -> None:
    assert page.read_text() == PAGES[page](), "write it: make pages"


def test_every_public_name_has_a_theme() -> None:
    assert sorted(sum(THEMES.values(), ())) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_and_method_has_a_docstring(name: str) -> None:
    value = getattr(metafleet, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    assert inspect.getdoc(value)
    for method, function in vars(value).items() if inspect.isclass(value) else ():
        if inspect.isfunction(function) and not method.startswith("_"):
            assert inspect.getdoc(getattr(value, method)), method


def test_every_variable_that_is_read_is_on_the_page_of_settings() -> None:
    source = (REPOSITORY / "contracts" / "settings.py").read_text()
    page = (REPOSITORY / "docs" / "reference" / "settings.md").read_text()

    read = set(re.findall(r"METAFLEET_[A-Z_]+", source))
    assert read == set(re.findall(r"^\| `(METAFLEET_[A-Z_]+)`", page, flags=re.MULTILINE))
