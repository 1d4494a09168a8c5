"""A row of the ledger: what is needed to run a result again, and what must come out."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

from metafleet.db.records import EvaluationRecord, RunRecord, RunStatus
from metafleet.errors import ConfigError
from metafleet.orchestrator.autotune.work_size import settled
from metafleet.orchestrator.config.bounded import read_bounded
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.ledger.preparing import prepare_command, without_place
from metafleet.splits import META_TEST, META_VAL

FORMAT: Final = 1
_STRICT: Final = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A result: an evaluation of the meta-test, or the best meta-validation."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    split: str
    label: str
    step: NonNegativeInt
    episodes: NonNegativeInt
    loss: FiniteFloat
    loss_ci95: FiniteFloat
    accuracy: FiniteFloat | None
    accuracy_ci95: FiniteFloat | None

    @property
    def name(self) -> str:
        """The name of the evaluation."""
        return f"{self.split} {self.label}"

    @property
    def value(self) -> float:
        """The score, or the loss in regression."""
        return self.loss if self.accuracy is None else self.accuracy

    @property
    def ci95(self) -> float:
        """Half the width of the value's 95 % interval over episodes."""
        return self.loss_ci95 if self.accuracy_ci95 is None else self.accuracy_ci95


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """A result and its origin.

    Attributes:
        experiment: name of the experiment.
        seed: the seed.
        config: the configuration with all defaults. If a value was chosen by a measurement when the
            run began, the chosen value is here instead of "auto", because the bits depend on it.
            The place of the original data (``data.root``) is left out, because ``data_digest``
            names the data.
        code_version: version of Metafleet.
        package_versions: package -> version, for the packages whose version is recorded with a run.
        data_digest: digest of the data.
        fingerprint: the numerics fingerprint. It lists what is known to affect the bits, such as
            the processor, the number of threads, libraries and code.
        checkpoint_sha256: digest of the final state and optimiser.
        wall_s: wall-clock time from the run's start to its end, in seconds.
        metrics: the results.
        prepare: the command that prepares the data; "" if Metafleet computes the data.
        format: version of the file's format.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    experiment: str
    seed: int
    config: Mapping[str, Any]
    code_version: str
    package_versions: Mapping[str, str]
    data_digest: str
    fingerprint: Mapping[str, str]
    checkpoint_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    wall_s: FiniteFloat
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    prepare: str = ""
    format: Literal[1] = FORMAT

    @classmethod
    def of(cls, run: RunRecord, evaluations: Iterable[EvaluationRecord]) -> Self:
        """Make the row of a finished run.

        Raises:
            ConfigError: the run is not finished, or its configuration has no test.
        """
        if run.status is not RunStatus.FINISHED or run.checkpoint_sha256 is None:
            raise ConfigError(f"run {run.id} is {run.status}; expected a finished run")
        metrics = tuple(map(_metric, _results(evaluations, run)))
        if not any(metric.split == META_TEST for metric in metrics):
            raise ConfigError(
                f"run {run.id} has no meta-test of its own (test.episodes=0); start one that "
                f"has with `metafleet runs clone {run.id} --set test.episodes=600`"
            )
        config = settled(ExperimentConfig.from_json(run.config), run)
        stored = config.to_json()
        began, ended = run.started_at, run.finished_at
        return cls(
            experiment=run.experiment,
            seed=run.seed,
            config={**stored, "data": without_place(config.data)},
            code_version=run.code_version,
            package_versions=run.package_versions,
            data_digest=run.data_digest,
            fingerprint=run.fingerprint,
            checkpoint_sha256=run.checkpoint_sha256,
            wall_s=(ended - began).total_seconds() if began and ended else 0.0,
            metrics=metrics,
            prepare=prepare_command(config.data),
        )

    @staticmethod
    def read(path: Path) -> "LedgerRow":
        """Read a row from a file.

        Raises:
            ConfigError: the file cannot be read, or its content is not a row.
        """
        try:
            row = _ROW.validate_json(read_bounded(path))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from error
        except ValidationError as error:
            raise ConfigError(
                f"{path} is no row of a ledger ({_first_problem(error)}); write one with "
                "`metafleet runs export RUN --format row`"
            ) from error
        if row.config.get("seed") != row.seed:
            raise ConfigError(
                f"{path} has seed={row.seed} but its configuration has "
                f"seed={row.config.get('seed')!r:.40}; expected the same seed"
            )
        return row

    def to_text(self) -> str:
        """Return the file's text."""
        document = {"format": self.format} | asdict(self)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_ROW: Final = TypeAdapter(LedgerRow)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg']:.100}" if key else f"{first['msg']:.100}"


def _results(evaluations: Iterable[EvaluationRecord], run: RunRecord) -> list[EvaluationRecord]:
    """Return those evaluations that a repetition of the run also makes.

    These are the tests and the best validation of the run itself. Evaluations by `metafleet
    evaluate` are left out. They have another number of episodes, or a label that names changes of
    the episodes.
    """
    episodes = run.config["test"]["episodes"]
    found = list(evaluations)
    tests = [e for e in found if e.split == META_TEST and "," not in e.label]
    validations = [e for e in found if e.split == META_VAL and e.is_best]
    last = max(validations, key=lambda e: e.step, default=None)
    return [e for e in tests if e.episodes == episodes] + ([last] if last else [])


def _metric(one: EvaluationRecord) -> Metric:
    return Metric(**{field.name: getattr(one, field.name) for field in fields(Metric)})
