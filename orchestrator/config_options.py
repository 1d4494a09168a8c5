"""Checks the free-form sections [data], [model] and [learner] against what is registered."""

from collections.abc import Mapping
from typing import Any

from orchestrator.config_problems import Blame


def problems(
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    learner: Mapping[str, Any],
    blame: Blame,
) -> list[str]:
    """List what is wrong with the three sections, one line each."""
    sections = {"data": data, "model": model, "learner": learner}
    return [
        blame.line(f"{section}.name", " is missing; expected a string")
        for section, options in sections.items()
        if "name" not in options
    ]
