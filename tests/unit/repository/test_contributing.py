"""The recipes of CONTRIBUTING.md name files that are there."""

import re

import pytest

from metafleet.data.decoding.registry import DECODERS
from tests.paths import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
RECIPES = "".join(re.findall(r"^## Add a .*?(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))
PATHS = sorted(set(re.findall(r"`([\w.-]+/[\w./-]+)`", RECIPES)))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_there_or_others_are_named_by_its_pattern(path: str) -> None:
    pattern = re.sub(r"NAME|KIND|NNNN", "*", path)

    assert any(REPOSITORY.glob(pattern))


@pytest.mark.parametrize("kind", DECODERS)
def test_each_kind_has_the_files_that_the_recipe_of_a_modality_names(kind: str) -> None:
    named = [path for path in PATHS if "KIND" in path]

    assert len(named) == 2
    assert all((REPOSITORY / path.replace("KIND", kind)).is_file() for path in named)
