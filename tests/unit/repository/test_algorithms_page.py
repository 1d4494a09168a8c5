"""docs/reference/algorithms.md says what the code does, and leaves no algorithm out."""

import re

import pytest

from metafleet.learners.registry import LEARNERS
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.learning_cases import BASELINES, CASES, NAMED
from tests.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reference" / "algorithms.md").read_text()
SECTIONS = dict(re.findall(r"^### `(\w+)`: (.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
NAMES = sorted(set(LEARNERS) - BASELINES)


def test_every_algorithm_has_a_section() -> None:
    assert sorted(SECTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_section_says_what_the_code_does(name: str) -> None:
    section, learner = SECTIONS[name], LEARNERS[name]

    papers = re.findall(r"arXiv:(\d{4}\.\d{5})\]\(https://arxiv\.org/abs/(\d{4}\.\d{5})\)", section)
    assert papers
    assert all(shown == linked for shown, linked in papers)
    if name != "sklearn_head":  # a prototypical network until it is judged
        assert papers[0][0] in (learner.__doc__ or "")
    assert re.search(r"^```text\n.+^```", section, flags=re.MULTILINE | re.DOTALL)


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
    assert {case.learner for case in CASES} == set(NAMES) - NAMED
