"""Reading models, and adapting them, by path."""

from collections.abc import Sequence
from pathlib import Path

from metafleet.data.summary import Progress, no_progress
from metafleet.inference.adapted_model import AdaptedModel, adapted_from
from metafleet.inference.items import ReadOptions
from metafleet.inference.kept_model import read_model
from metafleet.inference.learned_model import LearnedModel


def load_model(
    folder: str | Path, *, allowed_packages: Sequence[str] = ()
) -> AdaptedModel | LearnedModel:
    """Read a model that `metafleet adapt`, `metafleet export` or ``save`` wrote.

    Args:
        folder: the model.
        allowed_packages: packages of yours that a learner, network or kind of data named
            "package.module:Class" may be imported from.

    Returns:
        What predicts, or of an exported run what adapts.

    Raises:
        ModelError: there is none, it is damaged, or of another version.
        ConfigError: it names a learner or network that is not known, or not allowed.
    """
    kept = read_model(Path(folder).expanduser(), allowed_packages=allowed_packages)
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
        base: what a run learned, or a folder of it: exported, or adapted to other classes, which
            are then forgotten.
        support: the folder, manifest, or table of points.
        options: how a folder is read.
        allowed_packages: as in ``load_model``.
        batch_norm: in place of the mode of training; see ``LearnedModel.with_batch_norm``.
        progress: told how far decoding is.
    """
    if isinstance(base, str | Path):
        base = load_model(base, allowed_packages=allowed_packages)
    model = LearnedModel(base.learned)
    if batch_norm is not None:
        model = model.with_batch_norm(batch_norm, model.learned.allowed_packages)
    return model.adapt(support, options, progress=progress)
