"""Checks the sections [data], [model] and [learner] against the registries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metafleet.data.registry import open_data
from metafleet.errors import MetafleetError
from metafleet.learners.registry import LEARNERS
from metafleet.models.registry import MODELS
from metafleet.orchestrator.config.problems import Blame

Options = Mapping[str, Any]


def problems(
    sections: Mapping[str, Options], blame: Blame, *, allowed_packages: Sequence[str]
) -> list[str]:
    """Return the problems in ``sections``, with one line for each problem.

    Args:
        sections: name of a section ("data", "model" or "learner") -> options of the section.
        blame: knows which input an option came from.
        allowed_packages: the user's packages from which data sets, learners and models may come.
    """
    lines = []
    for section, options in sections.items():
        if "name" not in options:
            lines.append(blame.line(f"{section}.name", " is missing; expected a string"))
            continue
        try:
            _validate(section, options, allowed_packages)
        except MetafleetError as error:
            source = blame.source_of({section: options}, str(error))
            lines.append(f"{source}: {error}")
    return lines


def _validate(section: str, options: Options, allowed_packages: Sequence[str]) -> None:
    if section == "data":
        open_data(options, Path(), allowed_packages=allowed_packages)
    elif section == "model":
        MODELS.resolve(options, allowed_packages=allowed_packages)
    else:
        LEARNERS.resolve(options, allowed_packages=allowed_packages)
