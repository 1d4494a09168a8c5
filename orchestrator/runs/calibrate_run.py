"""Calibrates the learned state of a run on the run's validation episodes, in this process."""

from dataclasses import dataclass, replace

from metafleet.calibration.calibrating import Calibrator
from metafleet.calibration.calibration import Calibration, ShapeCalibration
from metafleet.calibration.judging import Uncertainty, judge_calibration
from metafleet.contracts.settings import Settings
from metafleet.data.summary import Progress, no_progress
from metafleet.db.records import RunRecord
from metafleet.episode import META_VAL, EpisodeShape
from metafleet.errors import ConfigError
from metafleet.inference.kept_model import Learned
from metafleet.orchestrator.config.experiment import ExperimentConfig
from metafleet.orchestrator.runs.learned_work import LearnedWork
from metafleet.workload import Workload


def calibrator_of(
    settings: Settings, run: RunRecord, learned: Learned, *, n_episodes: int
) -> Calibrator:
    """Open a run's validation episodes for the calibration of a state from the same run.

    Raises:
        DataMissingError: the run's data are not on this machine.
        DataCorruptError: the data differ from the data with which the run began.
        ConfigError: the data are for regression.
    """
    config = ExperimentConfig.from_json(run.config, f"configuration of run {run.id}")
    workload = Workload.build(
        config.workload_spec(run.data_digest),
        data_dir=settings.data_dir,
        allowed_packages=settings.allowed_packages,
    )
    return Calibrator(
        learned.learner,
        learned.state,
        workload.source,
        config.episodes.shape(META_VAL),
        seed=run.seed,
        n_unknown=config.episodes.n_unknown,
        n_episodes=n_episodes,
    )


@dataclass(frozen=True, slots=True)
class UncertaintyQuestion:
    """Says which uncertainty estimates of a run to judge, and on which episodes.

    Attributes:
        split: the split from whose classes the judged episodes are drawn.
        episodes: number of judged episodes of each shape.
        coverages: requested coverages, each in (0, 1). A coverage is the probability with which a
            predicted label set contains the true label.
        shapes: shapes of episodes, as (n_way, k_shot) pairs. If empty, the shape of the split's
            episodes in the run's configuration is used.
        calibration_episodes: number of calibration episodes of each shape. They are drawn from the
            validation classes.
    """

    split: str
    episodes: int
    coverages: tuple[float, ...]
    shapes: tuple[tuple[int, int], ...]
    calibration_episodes: int


def judge_uncertainty(
    work: LearnedWork,
    question: UncertaintyQuestion,
    progress: Progress = no_progress,
) -> list[Uncertainty]:
    """For each shape, calibrate on validation episodes and judge on episodes of ``question.split``.

    Raises:
        ConfigError: there are too few validation classes for calibration episodes.
        NumericsError: an output is not finite.
    """
    calibrator = _calibrator(work, question)
    return [_judge(calibrator, question, shape, progress) for shape in _shapes(work, question)]


def check_uncertainty(work: LearnedWork, question: UncertaintyQuestion) -> None:
    """Check that ``judge_uncertainty`` can answer the question.

    Raises:
        ConfigError: the data are for regression, the data have several labels per item, there are
            no episodes for calibration, or the split has too few classes or items for the episodes.
    """
    if work.workload.source.target_dim:
        raise ConfigError(
            "--uncertainty is about classes, but the data are regression; leave it out"
        )
    if getattr(work.workload.source, "label_separator", ""):
        raise ConfigError(
            "--uncertainty is about one class an item, but the data have several labels an item; "
            "leave it out"
        )
    if question.calibration_episodes == 0:
        raise ConfigError("--uncertainty with --calibration-episodes 0; expected 1 or more")
    for shape in _shapes(work, question):
        _require_possible(_calibrator(work, question), question.split, shape)


def _calibrator(work: LearnedWork, question: UncertaintyQuestion) -> Calibrator:
    return Calibrator(
        work.workload.learner,
        work.state,
        work.workload.source,
        work.config.episodes.shape(META_VAL),
        seed=work.config.seed,
        n_unknown=work.config.episodes.n_unknown,
        n_episodes=question.calibration_episodes,
    )


def _shapes(work: LearnedWork, question: UncertaintyQuestion) -> list[EpisodeShape]:
    own = work.config.episodes.shape(question.split)
    wanted = question.shapes or ((own.n_way, own.k_shot),)
    return [replace(own, n_way=n_way, k_shot=k_shot) for n_way, k_shot in dict.fromkeys(wanted)]


def _require_possible(calibrator: Calibrator, split: str, shape: EpisodeShape) -> None:
    calibrator.source.check(split, shape)
    fixed = calibrator.n_outputs
    if fixed not in (None, shape.n_way):
        raise ConfigError(
            f"--shape {shape.n_way}x{shape.k_shot} has {shape.n_way} classes, but the learner has "
            f"{fixed} outputs; expected {fixed}x{shape.k_shot}"
        )


def _judge(
    calibrator: Calibrator, question: UncertaintyQuestion, shape: EpisodeShape, progress: Progress
) -> Uncertainty:
    calibration = calibrator.calibrate([(shape.n_way, shape.k_shot)], progress).shapes[0]
    judge = replace(calibrator, split=question.split, template=shape, n_episodes=question.episodes)
    return judge_calibration(
        judge.logits(shape, step=0, progress=progress),
        calibration,
        question.coverages,
        split=question.split,
        n_unknown=judge.unknown_for(shape),
        calibrated_on=_described(calibrator, calibration),
    )


def _described(calibrator: Calibrator, calibration: ShapeCalibration) -> str:
    return f"{calibrator.split}, {calibration}, {calibration.episodes} episodes"


def describe(calibration: Calibration) -> str:
    """Describe a calibration in one line, for people."""
    listed = "; ".join(
        f"{shape}, {shape.episodes} episodes (temperature {shape.temperature:.3g})"
        for shape in calibration.shapes
    )
    return f"calibrated on {calibration.split}: {listed}"
