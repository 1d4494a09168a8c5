"""Loading and adapting models by path."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metafleet.data.summary import Progress, no_progress
from metafleet.inference.adapted_model import AdaptedModel, adapted_from
from metafleet.inference.items import ReadOptions
from metafleet.inference.kept_model import read_model
from metafleet.inference.learned_model import LearnedModel


def load_model(
    folder: str | Path,
    *,
    allowed_packages: Sequence[str] = (),
    encoders: Mapping[str, str] | None = None,
) -> AdaptedModel | LearnedModel:
    """Read a model that `metafleet adapt`, `metafleet export` or ``save`` wrote.

    Args:
        folder: folder of the model.
        allowed_packages: your packages from which classes may be imported. A model names your
            learner, network or kind of data as "package.module:Class".
        encoders: modality -> another name of its pretrained encoder, such as "hf:" with the path of
            a folder that was moved. When the model reads items, it refuses an encoder whose
            weights, preprocessing or pooling differ from those of its own encoder.

    Returns:
        An ``AdaptedModel``, or a ``LearnedModel`` for an exported run.

    Raises:
        ModelError: there is no model, or the model is damaged or has another format version.
        ConfigError: the model names a learner or network that is unknown or not allowed, or a
            modality in ``encoders`` has no encoder.
    """
    kept = read_model(
        Path(folder).expanduser(), allowed_packages=allowed_packages, encoders=encoders
    )
    return LearnedModel(kept.learned) if kept.needs is None else adapted_from(kept)


def adapt(
    base: str | Path | LearnedModel | AdaptedModel,
    support: str | Path,
    options: ReadOptions | None = None,
    *,
    allowed_packages: Sequence[str] = (),
    batch_norm: str | None = None,
    progress: Progress = no_progress,
) -> AdaptedModel:
    """Learn the classes of a folder of labelled examples; see ``LearnedModel.adapt``.

    Args:
        base: a model or its folder. If the model is already adapted, its classes are discarded.
        support: the folder, manifest, or table of points.
        options: how to read a folder.
        allowed_packages: as in ``load_model``.
        batch_norm: batch norm mode to use in place of the mode of training; see
            ``LearnedModel.with_batch_norm``.
        progress: called with the progress of decoding.
    """
    if isinstance(base, str | Path):
        base = load_model(base, allowed_packages=allowed_packages)
    model = LearnedModel(base.learned)
    if batch_norm is not None:
        model = model.with_batch_norm(batch_norm, model.learned.allowed_packages)
    return model.adapt(support, options, progress=progress)
