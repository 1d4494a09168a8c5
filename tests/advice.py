"""Made-up data sets on which the best learning rate depends on one meta-feature."""

import math
from collections.abc import Mapping
from typing import Any, Final

from metafleet.describing.description import Description, Landmark
from metafleet.orchestrator.advice.evidence import Contest, Result

RATES: Final = (0.001, 0.01, 0.1, 1.0)
LEARNERS: Final = ("maml", "protonet")


def description(accuracy: float, *, kind: str = "image", name: str = "") -> Description:
    """A data set on which nearest prototypes have an accuracy, 5-way 1-shot."""
    return Description(
        name=name or f"set-{accuracy}",
        digest=f"{kind}-{accuracy}",
        figures={"items": 1000.0, "classes.meta_train": 50.0, f"kind.{kind}": 1.0, "targets": 0.0},
        landmarks=(Landmark("raw", "accuracy", 5, 1, 200, accuracy, 0.01),),
    )


def values_of(rate: float, learner: str) -> dict[str, Any]:
    return {"outer.lr": rate, "learner.name": learner}


def score(accuracy: float, values: Mapping[str, Any]) -> float:
    """Hard sets need small rates; ``protonet`` is always a little better."""
    best_rate = 10 ** (-3 + 3 * accuracy)
    miss = abs(math.log10(values["outer.lr"] / best_rate)) / 3
    return 0.2 + 0.6 * (1 - miss) + 0.05 * (values["learner.name"] == "protonet")


def contest(accuracy: float, *, kind: str = "image", first_run: int = 0) -> Contest:
    """All configurations on one data set."""
    tried = [values_of(rate, learner) for rate in RATES for learner in LEARNERS]
    results = tuple(
        Result(values, score(accuracy, values), (first_run + number,))
        for number, values in enumerate(tried)
    )
    about = description(accuracy, kind=kind)
    return Contest(about.name, about, 5, 1, results)
