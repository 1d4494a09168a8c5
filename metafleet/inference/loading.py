"""Reading models, and adapting them, by path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metafleet.data.summary import Progress, no_progress
from metafleet.errors import MetafleetError, ModelError
from metafleet.inference.adapted_model import AdaptedModel, Learned, classes_of
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.items import ReadOptions
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.model_folder import read_header, read_tensors
from metafleet.inference.provenance import Provenance
from metafleet.inference.requirements import Needs
from metafleet.inference.state_layout import expected_layout
from metafleet.params import parted, unflatten_state


def load_model(
    folder: str | Path, *, allowed_packages: Sequence[str] = ()
) -> "AdaptedModel | LearnedModel":
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
    path = Path(folder).expanduser()
    header = read_header(path)
    try:
        blueprint = Blueprint.from_json(header["blueprint"], allowed_packages=allowed_packages)
        origin = Provenance.from_json(header["origin"])
        is_adapted, learner = _is_adapted(header["kind"]), blueprint.build(allowed_packages)
        classes = classes_of(header["classes"]) if is_adapted else {}
        needs = _needs(header["needs"]) if is_adapted else Needs(())
        if is_adapted:
            _check_fit(blueprint, classes, needs)
    except MetafleetError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error!r:.120}); make the model again") from error
    tensors = read_tensors(path, header, expected_layout(learner))
    state = unflatten_state(tensors)
    learned = Learned(blueprint, learner, state, origin, tuple(allowed_packages))
    if not is_adapted:
        return LearnedModel(learned)
    return AdaptedModel(learned, parted(tensors, "memory"), classes, needs)


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


def _is_adapted(kind: object) -> bool:
    if kind not in ("adapted", "learned"):
        raise ValueError(f"kind {kind!r:.40}")
    return kind == "adapted"


def _check_fit(blueprint: Blueprint, classes: Mapping[str, int], needs: Needs) -> None:
    """Hold what was adapted against what it was built from; raises ValueError."""
    problem = blueprint.problem
    if bool(classes) == problem.is_regression:
        raise ValueError(f"{len(classes)} classes, target_dim={problem.target_dim}")
    unknown = sorted(set(needs.known) - problem.modalities.keys())
    if unknown or not needs.known:
        raise ValueError(f"needs {list(needs.known)} of {list(problem.modalities)}")


def _needs(values: Mapping[str, Any]) -> Needs:
    parts = [values["required"], values["optional"]]
    if not all(isinstance(part, list) for part in parts):
        raise ValueError(f"needs {parts!r:.60}; expected lists of names")
    required, optional = (tuple(str(name) for name in part) for part in parts)
    return Needs(required, optional)
