"""Base class and limits of all sections of a configuration."""

from typing import Final

from pydantic import BaseModel, ConfigDict

MOST: Final = 10**12
"""Limit for steps and other counts: a thousand years of steps, and fits in any database."""
MOST_AT_ONCE: Final = 10**7
"""Limit for episodes in a step and examples in an episode: all of them are in memory."""
MOST_WEIGHT: Final = 1e30
"""Limit for step sizes: fits in float32."""


class Section(BaseModel):
    """Base class of sections: only known keys, checked types and ranges, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
