"""Sections [validation] and [test]."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from metafleet.orchestrator.config.section import MOST, Section


class ValidationSection(Section):
    """When to validate, and on how many episodes.

    Attributes:
        every: number of outer steps between two validations; 0 for no validation.
        episodes: number of episodes in each validation, >= 2.
        patience: number of successive validations without a new best result after which training
            stops; 0 for no early stopping.
    """

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


class FinalTestSection(Section):
    """The test after training.

    Attributes:
        episodes: number of test episodes, >= 2; 0 for no test.
        baselines: whether to report also chance, nearest prototypes and the initialisation.
    """

    episodes: int = Field(default=600, ge=0, le=MOST)
    baselines: bool = True

    @field_validator("episodes")
    @classmethod
    def _check_episodes(cls, episodes: int) -> int:
        if episodes == 1:
            raise ValueError("expected an integer >= 2, or 0 for no test")
        return episodes
