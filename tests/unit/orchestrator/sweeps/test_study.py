"""A sweep as a study of Optuna."""

import tomllib

import pytest

from metafleet.db.records import TrialRecord
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.sweeps.grammar import parse_space
from metafleet.orchestrator.sweeps.plan import Plan
from metafleet.orchestrator.sweeps.proposals import Search
from metafleet.orchestrator.sweeps.study import study_of
from metafleet.orchestrator.sweeps.trial import Trial
from tests.integration.orchestrator.cli.terminal import TINY


@pytest.mark.parametrize(
    ("listed", "values", "shown"),
    [
        ("1,true,2.5", [1, True, 2.5], ["1", "true", "2.5"]),
        ("true,false", [True, False], [True, False]),
        ("1,2", [1, 2], [1, 2]),
    ],
)
def test_each_value_is_a_category_of_its_own(
    listed: str, values: list[object], shown: list[object]
) -> None:
    config = ExperimentConfig.from_json(tomllib.loads(TINY) | {"seed": 1})
    search = Search(parse_space([f"learner.first_order={listed}"]), "grid", 0)
    plan = Plan(name="s", config=config, search=search, n_trials=len(values), parallel=1)
    trials = [
        Trial(TrialRecord(sweep_id=1, number=n, assigned={"learner.first_order": value}), None)
        for n, value in enumerate(values)
    ]
    study = study_of(plan, trials, {}, what="a test")

    found = [trial.params["learner.first_order"] for trial in study.trials]
    choices = study.trials[0].distributions["learner.first_order"].choices
    assert list(map(repr, found)) == list(map(repr, choices)) == list(map(repr, shown))
    places = [
        trial.distributions["learner.first_order"].to_internal_repr(value)
        for trial, value in zip(study.trials, found, strict=True)
    ]
    assert places == list(range(len(values)))
