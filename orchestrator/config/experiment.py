"""The checked configuration of one experiment.

One ConfigError reports all problems of a configuration. Its message has one line for each problem.
The line names the input (the file or --set), the key, the value, and what was expected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, ValidationError

from metafleet.episode import META_VAL, SPLITS, EpisodeShape
from metafleet.episodes.problem_of import problem_of
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError, MetafleetError
from metafleet.execution import Strategy
from metafleet.execution.strategy import LARGEST_CHUNK, StrategyName
from metafleet.models.registry import require_seen_names
from metafleet.orchestrator.config import options
from metafleet.orchestrator.config.engine import EngineSection
from metafleet.orchestrator.config.episodes import EpisodesSection
from metafleet.orchestrator.config.judging import FinalTestSection, ValidationSection
from metafleet.orchestrator.config.naming import NAME, NAME_EXPECTED
from metafleet.orchestrator.config.outer import OuterSection
from metafleet.orchestrator.config.problems import Blame, describe, raise_problems
from metafleet.orchestrator.config.section import Section
from metafleet.orchestrator.config.source import Overrides, apply_overrides, read_toml
from metafleet.orchestrator.config.sweep import SweepSection
from metafleet.workload import Workload, WorkloadSpec

MAX_SEED = 2**63 - 1
"""The largest seed that an integer column of every database can hold."""
_FREE_FORM = ("data", "model", "learner")


class ExperimentConfig(Section):
    """A checked, immutable experiment, made by ``load`` or ``from_json``.

    Attributes:
        name: the run's name: a letter, then letters, digits, dots, dashes or underscores.
        description: one line that describes the experiment to readers.
        seed: the seed of all randomness, >= 0.
        data: ``name`` is a data set, or a class of yours as "package.module:Class". The other keys
            are the data set's options.
        episodes: the shape of the episodes.
        model: ``name`` is a model, or a class of yours. The other keys are the model's options.
        learner: ``name`` is a learner, or a class of yours. The other keys are the learner's
            options.
        outer: the outer loop.
        validation: when to validate.
        test: the test after training.
        engine: how the work is divided, computed and supervised.
        sweep: how `metafleet sweep` searches. It is not part of the configuration of a run.
    """

    name: str = Field(pattern=NAME, json_schema_extra={"expected": NAME_EXPECTED})
    description: str = ""
    seed: int = Field(default=1, ge=0, le=MAX_SEED)
    data: dict[str, Any]
    episodes: EpisodesSection
    model: dict[str, Any]
    learner: dict[str, Any]
    outer: OuterSection
    validation: ValidationSection = ValidationSection()
    test: FinalTestSection = FinalTestSection()
    engine: EngineSection = EngineSection()
    sweep: SweepSection = SweepSection()
    _blame: Blame = PrivateAttr(default_factory=lambda: Blame("configuration"))

    @classmethod
    def load(
        cls, path: Path, overrides: Overrides = (), *, allowed_packages: Sequence[str] = ()
    ) -> Self:
        """Read a TOML file, apply ``--set`` overrides, and check the result. Do not open the data.

        Args:
            path: the file.
            overrides: assignments, e.g. "outer.lr=0.01", or dotted key -> value.
            allowed_packages: packages of the user that may be imported.

        Raises:
            ConfigError: the experiment has problems. The message has one line for each problem.
        """
        tree, overridden = apply_overrides(read_toml(path), overrides)
        return cls._checked(tree, Blame(str(path), overridden), allowed_packages)

    @classmethod
    def changed(
        cls,
        tree: Mapping[str, Any],
        overrides: Overrides,
        *,
        origin: str,
        allowed_packages: Sequence[str] = (),
    ) -> Self:
        """Apply ``--set`` overrides to a stored configuration, and check the result like ``load``.

        This raises the same errors as ``load``. In their messages, ``origin`` names the
        configuration.
        """
        changed, overridden = apply_overrides(dict(tree), overrides)
        return cls._checked(changed, Blame(origin, overridden), allowed_packages)

    @classmethod
    def _checked(
        cls, tree: Mapping[str, Any], blame: Blame, allowed_packages: Sequence[str]
    ) -> Self:
        lines = []
        try:
            config = cls.model_validate(tree)
        except ValidationError as error:
            lines = describe(error, cls, blame)
        free_form = {s: tree[s] for s in _FREE_FORM if isinstance(tree.get(s), dict)}
        lines += options.problems(free_form, blame, allowed_packages=allowed_packages)
        raise_problems(lines)
        config._blame = blame
        return config

    @classmethod
    def from_json(cls, tree: Mapping[str, Any], origin: str = "stored configuration") -> Self:
        """Rebuild a configuration from the result of ``to_json``. Messages name it ``origin``.

        Raises:
            ConfigError: the mapping is not a valid configuration.
        """
        blame = Blame(origin)
        try:
            config = cls.model_validate(tree)
        except ValidationError as error:
            raise ConfigError("\n".join(describe(error, cls, blame))) from error
        config._blame = blame
        return config

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, defaults included, for the runs.config column.

        The section [sweep] is left out, because it is not part of a run.
        """
        return self.model_dump(mode="json", exclude_none=True, exclude={"sweep"})

    def with_seed(self, seed: int) -> Self:
        """Return the same experiment with another seed.

        Raises:
            ConfigError: the seed is out of range.
        """
        other = self.from_json({**self.to_json(), "seed": seed}, "--seeds")
        other._blame = self._blame
        return other

    def with_data(self, data: Mapping[str, Any]) -> Self:
        """Return the same experiment with other data options, which the caller has checked."""
        return self.model_copy(update={"data": dict(data)})

    def with_episodes_per_job(self, episodes_per_job: int) -> Self:
        """Return the same experiment with ``episodes_per_job`` episodes in a job."""
        engine = self.engine.model_copy(update={"episodes_per_job": episodes_per_job})
        return self.model_copy(update={"engine": engine})

    def with_execution(self, execution: StrategyName) -> Self:
        """Return the same experiment with another way to execute episodes."""
        engine = self.engine.model_copy(update={"execution": execution})
        return self.model_copy(update={"engine": engine})

    def with_episodes(self, overrides: Sequence[str], *, split: str) -> Self:
        """Return the same experiment with other episodes.

        Args:
            overrides: assignments, e.g. "episodes.k_shot=5". Of several assignments to one key, the
                last one counts.
            split: the split for which ``overrides`` change the episodes.

        Raises:
            ConfigError: an assignment is invalid, belongs to another section, or has no effect on
                the split. But it is allowed to assign a value that the split already has.
        """
        tree, keys = apply_overrides(self.to_json(), overrides)
        others = sorted(key for key in keys if not key.startswith("episodes."))
        if others:
            raise ConfigError(
                f"--set {others[0]} would change what was learned; expected a key of [episodes], "
                "like episodes.k_shot=5"
            )
        changed = self.from_json(tree, "--set")
        for key in sorted(key.removeprefix("episodes.") for key in keys):
            _require_deciding(key, changed.episodes, split)
        return changed

    def shapes(self) -> dict[str, EpisodeShape]:
        """Return the shape of the episodes of every split that the run uses.

        A run without validation does not use meta_val. For such a run, too few classes in meta_val
        are therefore no error.
        """
        used = [split for split in SPLITS if split != META_VAL or self.validation.every]
        return {split: self.episodes.shape(split) for split in used}

    def workload_spec(self, data_digest: str) -> WorkloadSpec:
        """Return the specification from which workers compute this experiment.

        If ``engine.execution`` is "auto" and its value is not chosen yet, the specification
        contains "autograd".
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
        """Return how episodes are executed: in chunks as large as a job, up to a limit."""
        name: StrategyName = "autograd"
        if self.engine.execution != "auto":
            name = self.engine.execution
        strategy, size = Strategy(name, self.engine.precision), self.engine.episodes_per_job
        if not strategy.is_mapped or size == "auto":
            return strategy
        return replace(strategy, chunk=min(size, self.outer.meta_batch_size, LARGEST_CHUNK))

    def check_source(self, source: EpisodeSource, *, allowed_packages: Sequence[str] = ()) -> None:
        """Check the opened data against the model, the learner and the episodes of all used splits.

        Raises:
            ConfigError: there are too few data for the episodes of some splits (the message has one
                line for each of these splits), or the model or the learner does not fit the data.
        """
        lines: dict[str, None] = {}  # report a problem of several splits once
        for split, shape in self.shapes().items():
            try:
                source.check(split, shape)
            except MetafleetError as error:
                lines[f"{self._blame.source('episodes')}: {error}"] = None
        raise_problems(list(lines))
        try:
            spec = self.workload_spec("")
            workload = Workload.bind(spec, source, allowed_packages=allowed_packages)
            shows_names = any(shape.class_text for shape in self.shapes().values())
            if shows_names and not getattr(workload.learner, "reads_class_text", False):
                problem = problem_of(source, self.shapes())
                require_seen_names(self.model, problem, allowed_packages=allowed_packages)
        except ConfigError as error:
            sections = {"model": self.model, "learner": self.learner}
            blamed = self._blame.source_of(sections, str(error))
            raise ConfigError(f"{blamed}: {error}") from error


def _require_deciding(key: str, episodes: EpisodesSection, split: str) -> None:
    """Refuse an assignment to a key that has no effect on a split's episodes.

    Raises:
        ConfigError: the key belongs to another split, or a key of the split's own table overrides
            it.
    """
    place = key.partition(".")[0]
    if place == split:
        return
    if place in SPLITS:
        raise ConfigError(
            f"--set episodes.{key} changes nothing of the episodes of {split!r}, which are judged; "
            f"leave it out, or judge with --split {place}"
        )
    decided = getattr(getattr(episodes, split), key, None)  # n_unknown is the same for all
    if decided not in (None, getattr(episodes, key)):
        decides = f"episodes.{split}.{key}"
        raise ConfigError(
            f"--set episodes.{key} changes nothing of the episodes of {split!r}, for which "
            f"{decides}={decided!r} decides; set {decides} in its place"
        )
