"""Which modalities a model needs, where it says so and where it is tried."""

import pytest

from metafleet.episode import EpisodeShape
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.requirements import Needs, find_needs
from metafleet.problem import Problem

PROBLEM = Problem({"image": (1, 28, 28), "table": (4,)}, 0, {"meta_train": EpisodeShape(5, 1, 5)})
TREE = {"name": "sklearn_head", "estimator": "sklearn.tree.DecisionTreeClassifier"}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"name": "raw"}, Needs(("image", "table"))),
        ({"name": "mlp", "modalities": ["table"]}, Needs(("table",))),
    ],
)
def test_a_classifier_that_asks_for_few_numbers_needs_what_its_model_looks_at(
    model: dict[str, object], expected: Needs
) -> None:
    blueprint = Blueprint(TREE, model, PROBLEM, {})
    learner = blueprint.build()

    assert find_needs(blueprint, learner, learner.init_state(0)) == expected
