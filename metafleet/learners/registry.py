"""The learners there are, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.learners.base import Learner, LearnerClass
from metafleet.learners.maml import Maml
from metafleet.learners.nearest_prototype import NearestPrototype
from metafleet.learners.protonet import Protonet
from metafleet.models.base import ModelFactory
from metafleet.options import parse_options
from metafleet.plugins import find_class
from metafleet.problem import Problem

LEARNERS: dict[str, type[LearnerClass]] = {
    "maml": Maml,
    "nearest_prototype": NearestPrototype,
    "protonet": Protonet,
}


def learner_options(
    options: Mapping[str, Any], *, allowed_packages: Sequence[str] = ()
) -> tuple[type[LearnerClass], Any]:
    """Return the class that ``options["name"]`` chooses and its checked options.

    Raises:
        ConfigError: the name or an option is unknown, of another type, or out of range.
    """
    name = options.get("name")
    found = find_class(name, LEARNERS, kind="learner", allowed_packages=allowed_packages)
    return found, parse_options(found.Options, options, where=f"learner {name!r}")


def build_learner(
    options: Mapping[str, Any],
    problem: Problem,
    make_model: ModelFactory,
    *,
    allowed_packages: Sequence[str] = (),
) -> Learner:
    """Build the learner that ``options`` describe.

    Raises:
        ConfigError: an option is wrong or does not fit ``problem``.
    """
    found, parsed = learner_options(options, allowed_packages=allowed_packages)
    return found.build(parsed, problem, make_model)
