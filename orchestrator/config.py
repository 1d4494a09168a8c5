"""An experiment's configuration: TOML in, one checked and frozen value out.

Every problem is one line that names the input, the key, the value and what was expected; all of
them are reported together, in one ConfigError.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from metafleet.episode import SPLITS, EpisodeShape
from metafleet.errors import ConfigError, MetafleetError
from metafleet.execution import STRATEGIES, Strategy
from metafleet.execution.strategy import LARGEST_CHUNK, Precision, StrategyName
from metafleet.sampling import EpisodeSource
from metafleet.workload import Workload, WorkloadSpec
from orchestrator import config_options
from orchestrator.config_problems import Blame, describe, raise_problems, shown
from orchestrator.config_source import apply_overrides, read_toml

MAX_SEED = 2**63 - 1
"""The largest seed every database can hold in one integer column."""


_NAME = r"^[A-Za-z][A-Za-z0-9._-]{0,63}$"
_NAME_EXPECTED = "a letter, then up to 63 letters, digits, dots, dashes or underscores"
_FREE_FORM = ("data", "model", "learner")


def check_name(name: str, origin: str) -> None:
    """Make sure that ``name`` obeys the rule for names; ``origin`` says where it came from.

    Raises:
        ConfigError: it does not.
    """
    if name.endswith("\n") or not re.match(_NAME, name):
        raise ConfigError(f"{origin}={shown(name)}; expected {_NAME_EXPECTED}")


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class EpisodeOverride(_Section):
    """Fields of an episode's shape that one split has otherwise."""

    n_way: int | None = Field(default=None, ge=0)
    k_shot: int | None = Field(default=None, ge=1)
    n_query: int | None = Field(default=None, ge=1)
    shots: Literal["even", "uneven"] | None = None
    missing_rate: float | None = Field(default=None, ge=0, lt=1)
    support_modalities: list[str] | None = None
    query_modalities: list[str] | None = None
    class_text: bool | None = None
    parts: list[str] | None = None


class Episodes(_Section):
    """Shape of the episodes: n_way 0 is regression; see ``EpisodeShape``."""

    n_way: int = Field(ge=0)
    k_shot: int = Field(ge=1)
    n_query: int = Field(ge=1)
    shots: Literal["even", "uneven"] = "even"
    missing_rate: float = Field(default=0.0, ge=0, lt=1)
    support_modalities: list[str] = []
    query_modalities: list[str] = []
    class_text: bool = False
    parts: list[str] = []
    meta_train: EpisodeOverride = EpisodeOverride()
    meta_val: EpisodeOverride = EpisodeOverride()
    meta_test: EpisodeOverride = EpisodeOverride()

    @model_validator(mode="after")
    def _check_n_way(self) -> Self:
        for split in SPLITS:
            if (n_way := self.shape(split).n_way) == 1:
                raise ValueError(
                    f"n_way={n_way} in split {split!r}; expected an integer >= 2, "
                    "or 0 for regression"
                )
        return self

    def shape(self, split: str) -> EpisodeShape:
        """Give the shape of one split's episodes."""
        own: EpisodeOverride = getattr(self, split)
        values: dict[str, Any] = {}
        for name in EpisodeOverride.model_fields:
            value = getattr(self, name) if getattr(own, name) is None else getattr(own, name)
            values[name] = tuple(value) if isinstance(value, list) else value
        return EpisodeShape(**values)


class Outer(_Section):
    """The outer loop: how many steps, how large, which optimiser and schedule."""

    steps: int = Field(ge=1)
    meta_batch_size: int = Field(ge=1)
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    step_every: int = Field(default=0, ge=0)
    step_gamma: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.momentum and self.optimiser != "sgd":
            raise ValueError(
                f"momentum={self.momentum} has no meaning with optimiser={self.optimiser!r}; "
                "expected momentum=0.0, or optimiser='sgd'"
            )
        if self.schedule == "step" and not self.step_every:
            raise ValueError("step_every=0 with schedule='step'; expected an integer >= 1")
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} exceeds steps={self.steps}; lower warmup_steps"
            )
        return self


class Validation(_Section):
    """When and how to validate; every=0 is never, patience=0 is no early stopping."""

    every: int = Field(default=0, ge=0)
    episodes: int = Field(default=200, ge=2)
    patience: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_patience(self) -> Self:
        if self.patience and not self.every:
            raise ValueError(
                f"patience={self.patience} with every=0 never validates; "
                "expected every >= 1, or patience=0"
            )
        return self


class Test(_Section):
    """The test after training, and whether baselines are judged beside it."""

    __test__ = False  # tells pytest that this is no test class

    episodes: int = Field(default=600, ge=2)
    baselines: bool = True


class Engine(_Section):
    """How the work is cut and guarded.

    Only episodes_per_job, device, execution, precision, wire_dtype and max_staleness touch the
    arithmetic.
    """

    episodes_per_job: int | Literal["auto"] = Field(
        default=4, json_schema_extra={"expected": "an integer >= 1, or 'auto'"}
    )
    device: Literal["cpu", "cuda", "any"] = "cpu"
    execution: Literal[StrategyName, "auto"] = Field(
        default="autograd",
        json_schema_extra={"expected": f"one of: {', '.join(STRATEGIES)}, auto"},
    )
    precision: Precision = "float32"
    numerics: Literal["strict", "relaxed"] = "strict"
    policy: Literal["strict", "partial"] = "strict"
    min_fraction: float = Field(default=0.9, gt=0, le=1)
    max_attempts: int = Field(default=3, ge=1)
    checkpoint_every: int = Field(default=25, ge=1)
    max_staleness: int = Field(default=0, ge=0, le=4)
    step_deadline_s: float = Field(default=600.0, gt=0)
    job_deadline_s: float = Field(default=600.0, gt=0)
    wire_dtype: Literal["float32", "bfloat16"] = "float32"
    reduce_fan_in: int = Field(default=0, ge=0)

    @field_validator("episodes_per_job", mode="before")
    @classmethod
    def _check_episodes_per_job(cls, value: object) -> object:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if value == "auto" or (is_number and cast(int, value) >= 1):
            return value
        is_in_range_type = is_number or isinstance(value, str)
        raise PydanticCustomError("range" if is_in_range_type else "work_size_type", "out of range")

    @property
    def own_device(self) -> str:
        """What this process computes on when there is no fleet; for ``resolve_device``."""
        return "auto" if self.device == "any" else self.device

    @model_validator(mode="after")
    def _check_mixed(self) -> Self:
        if self.device == "any" and self.numerics == "strict":
            raise ValueError(
                'device="any" mixes processors that compute other last bits, and numerics="strict" '
                'refuses that; set numerics="relaxed", or device="cpu" or "cuda"'
            )
        return self

    @model_validator(mode="after")
    def _check_fan_in(self) -> Self:
        if self.reduce_fan_in == 1 or self.reduce_fan_in & (self.reduce_fan_in - 1):
            raise ValueError(
                f"reduce_fan_in={self.reduce_fan_in}; expected a power of two >= 2, or 0 for none"
            )
        return self


class ExperimentConfig(_Section):
    """One experiment, checked: made by ``load`` or ``from_json``, never changed."""

    name: str = Field(
        pattern=_NAME,
        json_schema_extra={"expected": _NAME_EXPECTED},
    )
    description: str = ""
    seed: int = Field(default=1, ge=0, le=MAX_SEED)
    data: dict[str, Any]
    episodes: Episodes
    model: dict[str, Any]
    learner: dict[str, Any]
    outer: Outer
    validation: Validation = Validation()
    test: Test = Test()
    engine: Engine = Engine()
    _blame: Blame = PrivateAttr(default_factory=lambda: Blame("configuration"))

    @classmethod
    def load(
        cls, path: Path, overrides: Sequence[str] = (), *, allowed_packages: Sequence[str] = ()
    ) -> Self:
        """Read a TOML file, lay ``--set`` overrides over it, and check all but the data.

        Args:
            path: the file.
            overrides: assignments such as "outer.lr=0.01".
            allowed_packages: packages of the user whose learners and models may be imported.

        Raises:
            ConfigError: one line for each problem.
        """
        tree, overridden = apply_overrides(read_toml(path), overrides)
        blame = Blame(str(path), overridden)
        lines = []
        try:
            config = cls.model_validate(tree)
        except ValidationError as error:
            lines = describe(error, cls, blame)
        free_form = {s: tree[s] for s in _FREE_FORM if isinstance(tree.get(s), dict)}
        lines += config_options.problems(free_form, blame, allowed_packages=allowed_packages)
        raise_problems(lines)
        config._blame = blame
        return config

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], origin: str = "stored configuration") -> Self:
        """Rebuild what ``to_json`` wrote; ``origin`` names it in messages.

        Raises:
            ConfigError: the mapping is no valid configuration.
        """
        blame = Blame(origin)
        try:
            config = cls.model_validate(tree)
        except ValidationError as error:
            raise ConfigError("\n".join(describe(error, cls, blame))) from error
        config._blame = blame
        return config

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values, defaults included, for the runs.config column."""
        return self.model_dump(mode="json", exclude_none=True)

    def with_seed(self, seed: int) -> Self:
        """Give the same experiment with another seed.

        Raises:
            ConfigError: the seed is out of range.
        """
        other = self.from_json({**self.to_json(), "seed": seed}, "--seeds")
        other._blame = self._blame
        return other

    def with_data(self, data: Mapping[str, Any]) -> Self:
        """Give the same experiment with other options of its data, which the caller checked."""
        return self.model_copy(update={"data": dict(data)})

    def with_episodes_per_job(self, episodes_per_job: int) -> Self:
        """Give the same experiment with jobs of so many episodes."""
        engine = self.engine.model_copy(update={"episodes_per_job": episodes_per_job})
        return self.model_copy(update={"engine": engine})

    def with_execution(self, execution: StrategyName) -> Self:
        """Give the same experiment with episodes executed in a certain way."""
        engine = self.engine.model_copy(update={"execution": execution})
        return self.model_copy(update={"engine": engine})

    def with_episodes(self, overrides: Sequence[str]) -> Self:
        """Give the same experiment with other episodes.

        Args:
            overrides: assignments such as "episodes.k_shot=5".

        Raises:
            ConfigError: one is of another key, or not valid.
        """
        tree, keys = apply_overrides(self.to_json(), overrides)
        others = sorted(key for key in keys if not key.startswith("episodes."))
        if others:
            raise ConfigError(
                f"--set {others[0]} would change what was learned; expected a key of [episodes], "
                "like episodes.k_shot=5"
            )
        return self.from_json(tree, "--set")

    def shapes(self) -> dict[str, EpisodeShape]:
        """Give the shape of every split's episodes."""
        return {split: self.episodes.shape(split) for split in SPLITS}

    def workload_spec(self, data_digest: str) -> WorkloadSpec:
        """Give what workers need to know to do this experiment's arithmetic.

        Where it is still to be measured how episodes are executed, they are by autograd.
        """
        return WorkloadSpec(
            seed=self.seed,
            data=self.data,
            data_digest=data_digest,
            episodes=self.shapes(),
            model=self.model,
            learner=self.learner,
            execution=self.strategy(),
        )

    def strategy(self) -> Strategy:
        """Say how episodes are executed: in chunks as large as a job, up to a limit."""
        name: StrategyName = "autograd"
        if self.engine.execution != "auto":
            name = self.engine.execution
        strategy, size = Strategy(name, self.engine.precision), self.engine.episodes_per_job
        if not strategy.is_mapped or size == "auto":
            return strategy
        return replace(strategy, chunk=min(size, self.outer.meta_batch_size, LARGEST_CHUNK))

    def check_source(self, source: EpisodeSource, *, allowed_packages: Sequence[str] = ()) -> None:
        """Check every split's episodes, the model and the learner against the opened data.

        Raises:
            ConfigError: one line for each split whose episodes the data cannot fill; else the
                reason why model or learner do not fit.
        """
        lines = []
        for split, shape in self.shapes().items():
            try:
                source.check(split, shape)
            except MetafleetError as error:
                lines.append(f"{self._blame.source('episodes')}: {error}")
        raise_problems(lines)
        try:
            Workload.bind(self.workload_spec(""), source, allowed_packages=allowed_packages)
        except ConfigError as error:
            raise ConfigError(f"{self._blame.origin}: {error}") from error
