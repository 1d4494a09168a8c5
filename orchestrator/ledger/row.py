"""A row of the ledger: what is needed to run a result again, and what must come out."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from metafleet.db.records import EvaluationRecord, RunRecord, RunStatus
from metafleet.errors import ConfigError
from metafleet.orchestrator.autotune.work_size import settled
from metafleet.orchestrator.config.bounded import read_bounded
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.splits import META_TEST, META_VAL

FORMAT: Final = 1
_TEXTS: Final = ("experiment", "code_version", "data_digest", "checkpoint_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A result: an evaluation of the meta-test, or the best meta-validation."""

    split: str
    label: str
    step: int
    episodes: int
    loss: float
    loss_ci95: float
    accuracy: float | None
    accuracy_ci95: float | None

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
        code_version: version of Metafleet.
        package_versions: package -> version, for the packages whose version is recorded with a run.
        data_digest: digest of the data.
        fingerprint: the numerics fingerprint. It lists what is known to affect the bits, such as
            the processor, the number of threads, libraries and code.
        checkpoint_sha256: digest of the final state and optimiser.
        wall_s: wall-clock time from the run's start to its end, in seconds.
        metrics: the results.
    """

    experiment: str
    seed: int
    config: Mapping[str, Any]
    code_version: str
    package_versions: Mapping[str, str]
    data_digest: str
    fingerprint: Mapping[str, str]
    checkpoint_sha256: str
    wall_s: float
    metrics: tuple[Metric, ...]

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
        began, ended = run.started_at, run.finished_at
        return cls(
            experiment=run.experiment,
            seed=run.seed,
            config=config.to_json(),
            code_version=run.code_version,
            package_versions=run.package_versions,
            data_digest=run.data_digest,
            fingerprint=run.fingerprint,
            checkpoint_sha256=run.checkpoint_sha256,
            wall_s=(ended - began).total_seconds() if began and ended else 0.0,
            metrics=metrics,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a row from a file.

        Raises:
            ConfigError: the file cannot be read, or its content is not a row.
        """
        try:
            document = json.loads(read_bounded(path))
            if document.pop("format") != FORMAT:
                raise ConfigError(f"{path} has another format; expected a row of this version")
            metrics = tuple(Metric(**metric) for metric in document.pop("metrics"))
            row = cls(**document, metrics=metrics)
            _require_types(row)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"{path} is no row of a ledger ({error!s:.100}); write one with `metafleet runs "
                "export RUN --format row`"
            ) from error
        return row

    def to_text(self) -> str:
        """Return the file's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"


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


def _require_types(row: LedgerRow) -> None:
    for name in _TEXTS:
        if not isinstance(getattr(row, name), str):
            raise TypeError(f"{name} is no text")
    if not all(isinstance(value, str) for value in row.fingerprint.values()):
        raise TypeError("a value of fingerprint is no text")
    if not row.metrics:
        raise ValueError("metrics is empty")
    for metric in row.metrics:
        if not isinstance(metric.episodes, int):
            raise TypeError(f"episodes of {metric.name} is no whole number")
        optional = (metric.accuracy, metric.accuracy_ci95)
        given = [number for number in optional if number is not None]
        if not all(map(math.isfinite, (metric.loss, metric.loss_ci95, *given))):
            raise ValueError(f"{metric.name} is not finite")
