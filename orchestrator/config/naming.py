"""The rule for names of experiments."""

import re
from typing import Final

from metafleet.errors import ConfigError
from metafleet.orchestrator.config.problems import shown

NAME: Final = r"^[A-Za-z][A-Za-z0-9._-]{0,63}$"
NAME_EXPECTED: Final = "a letter, then up to 63 letters, digits, dots, dashes or underscores"


def check_name(name: str, origin: str) -> None:
    """Check that ``name`` follows the rule for names. Messages say that it came from ``origin``.

    Raises:
        ConfigError: the name is invalid.
    """
    if name.endswith("\n") or not re.match(NAME, name):
        raise ConfigError(f"{origin}={shown(name)}; expected {NAME_EXPECTED}")
