"""docs/algorithms.md says what the code does, and leaves no algorithm out."""

import dataclasses
import re

import pytest

from metafleet.learners.registry import LEARNERS
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.integration.orchestrator.training.test_through_celery import BASELINES, CASES
from tests.paths import REPOSITORY
from tests.unit.repository.test_readme_tables import defaults_of, is_said

PAGE = (REPOSITORY / "docs" / "algorithms.md").read_text()
SECTIONS = dict(re.findall(r"^### `(\w+)`: (.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
NAMES = sorted(set(LEARNERS) - BASELINES)


def table_of(text: str) -> dict[str, str]:
    """Option -> default of the tables in a part of the page."""
    found: dict[str, str] = {}
    for names, values in re.findall(r"^\| (`.+?) \| (.+?) \|", text, flags=re.MULTILINE):
        found |= defaults_of(names, values)
    return found


SHARED = table_of(PAGE.partition("\n### ")[0])
"""Options of all learners that adapt by gradient steps."""


def test_every_algorithm_has_a_section() -> None:
    assert sorted(SECTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_section_says_what_the_code_does(name: str) -> None:
    section, learner = SECTIONS[name], LEARNERS[name]
    options = dataclasses.fields(learner.Options)

    papers = re.findall(r"arXiv:(\d{4}\.\d{5})\]\(https://arxiv\.org/abs/(\d{4}\.\d{5})\)", section)
    assert papers
    assert all(shown == linked for shown, linked in papers)
    if name != "sklearn_head":  # a prototypical network until it is judged
        assert papers[0][0] in (learner.__doc__ or "")
    assert re.search(r"^```text\n.+^```", section, flags=re.MULTILINE | re.DOTALL)

    shown = {n: d for n, d in SHARED.items() if n in {field.name for field in options}}
    shown |= table_of(section)
    assert shown.keys() == {field.name for field in options}
    for field in options:
        default = {} if field.default is dataclasses.MISSING else field.default
        assert is_said(default, shown[field.name]), field.name


@pytest.mark.parametrize("name", NAMES)
def test_its_configurations_train_it_and_its_test_knows_it(name: str) -> None:
    files = re.findall(r"`(experiments/[\w-]+\.toml)`", SECTIONS[name])
    (test,) = re.findall(r"^- Test: `(.+)`$", SECTIONS[name], flags=re.MULTILINE)

    for file in files:
        config = ExperimentConfig.load(REPOSITORY / file)
        assert config.learner["name"] == name
    known = (REPOSITORY / test).read_text().replace("_", "").lower()
    assert name.replace("_", "") in known


def test_every_algorithm_is_trained_through_celery() -> None:
    assert {case.learner for case in CASES} == set(NAMES)
