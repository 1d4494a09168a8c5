"""Sections [validation] and [test]: when a run is judged, and on how much."""

from typing import Self

from pydantic import Field, model_validator

from metafleet.orchestrator.config.section import MOST, Section


class Validation(Section):
    """When and how to validate; every=0 is never, patience=0 is no early stopping."""

    every: int = Field(default=0, ge=0, le=MOST)
    episodes: int = Field(default=200, ge=2, le=MOST)
    patience: int = Field(default=0, ge=0, le=MOST)

    @model_validator(mode="after")
    def _check_patience(self) -> Self:
        if self.patience and not self.every:
            raise ValueError(
                f"patience={self.patience} with every=0 never validates; "
                "expected every >= 1, or patience=0"
            )
        return self


class Test(Section):
    """The test after training, and whether baselines are judged beside it."""

    __test__ = False  # tells pytest that this is no test class

    episodes: int = Field(default=600, ge=2, le=MOST)
    baselines: bool = True
