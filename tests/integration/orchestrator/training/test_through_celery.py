"""Every algorithm learns: from its own configuration, made small, over two Celery workers.

What a case ends with must beat what it
began with, both judged on episodes never trained on.
"""

import pytest

from metafleet.orchestrator.training.events import EvaluationDone
from tests.fleet import Fleet
from tests.learning_cases import CASES, Case
from tests.runs import execute, new_run


@pytest.fixture(scope="module")
def fleet(standing_fleet: Fleet) -> Fleet:
    """Two workers for all cases."""
    return standing_fleet


SAME_LEARNER = pytest.mark.slow("the learner of glyphs-maml, with gradients of first order")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case), marks=SAME_LEARNER)
        if case.experiment == "glyphs-fomaml"
        else pytest.param(case, id=str(case))
        for case in CASES
    ],
)
def test_a_trained_model_beats_an_untrained_one(fleet: Fleet, case: Case) -> None:
    settings = fleet.settings
    run = new_run(settings, case.config())

    report = execute(settings, run)

    found = {evaluation.label: evaluation for evaluation in report.evaluations}
    trained, initial = found["trained"], found["initialisation"]
    shown = f"{describe(trained)}, untrained {describe(initial)}"
    assert is_clearly_better(trained, initial), shown
    assert len(report.workers) > 0


def is_clearly_better(one: EvaluationDone, other: EvaluationDone) -> bool:
    """Return whether the intervals (of accuracy, or of the loss in regression) are apart."""
    if one.accuracy is None or other.accuracy is None:
        return one.loss + one.loss_ci95 < other.loss - other.loss_ci95
    assert one.accuracy_ci95 is not None and other.accuracy_ci95 is not None
    return one.accuracy - one.accuracy_ci95 > other.accuracy + other.accuracy_ci95


def describe(evaluation: EvaluationDone) -> str:
    if evaluation.accuracy is None:
        return f"loss {evaluation.loss:.2f} +- {evaluation.loss_ci95:.2f}"
    return f"accuracy {evaluation.accuracy:.3f} +- {evaluation.accuracy_ci95:.3f}"
