"""The defaults of a configuration, for commands that must not import its sections."""

import json
from typing import Any

from pydantic import BaseModel

from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.paths import REPOSITORY

DEFAULTS = REPOSITORY / "orchestrator" / "records" / "defaults.json"


def render() -> str:
    """Return the file: every key that has a default other than None."""
    found = _defaults(ExperimentConfig)
    del found["sweep"]  # not part of the configuration of a run
    return json.dumps(found, indent=2) + "\n"


def _defaults(section: type[BaseModel]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found[name] = _defaults(kind)
        elif not field.is_required() and field.get_default() is not None:
            found[name] = field.get_default()
    return found
