"""docs/api.md is what the code says, and every public name says something."""

import inspect

import pytest

import metafleet
from tests.api_page import PAGE, THEMES, render


def test_the_page_of_public_names_is_that_of_the_code() -> None:
    assert PAGE.read_text() == render(), "write it: make pages"
    assert sorted(sum(THEMES.values(), ())) == sorted(metafleet.__all__)


@pytest.mark.parametrize("name", metafleet.__all__)
def test_every_public_name_and_method_has_a_docstring(name: str) -> None:
    value = getattr(metafleet, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    assert inspect.getdoc(value)
    for method, function in vars(value).items() if inspect.isclass(value) else ():
        if inspect.isfunction(function) and not method.startswith("_"):
            assert inspect.getdoc(getattr(value, method)), method
