"""What all sections of a configuration have in common."""

from typing import Final

from pydantic import BaseModel, ConfigDict

MOST: Final = 10**12
"""Of steps and the like: a thousand years of them, and every database can hold it."""
MOST_AT_ONCE: Final = 10**7
"""Of episodes in one step, and of examples in one episode: they are all in memory."""
MOST_WEIGHT: Final = 1e30
"""Of a step size: float32 holds it."""


class Section(BaseModel):
    """Keys and values of given types and ranges, and no others; never changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
