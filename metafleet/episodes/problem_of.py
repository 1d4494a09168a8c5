"""The problem that a source's episodes pose to a learner."""

from collections.abc import Mapping

from metafleet.episode import CLASS_TEXT, CLASS_TEXT_BYTES, EpisodeShape
from metafleet.episodes.mixture import MixtureSource
from metafleet.episodes.source import EpisodeSource
from metafleet.problem import Problem


def problem_of(source: EpisodeSource, episodes: Mapping[str, EpisodeShape]) -> Problem:
    """Describe the problem that a learner must solve in a source's episodes of these shapes.

    Raises:
        ConfigError: a modality's shape does not fit its kind of data.
    """
    has_names = any(shape.class_text for shape in episodes.values())
    size: int | None = getattr(source, "class_text_size", None)
    names = {CLASS_TEXT: (size or CLASS_TEXT_BYTES,)} if has_names else {}
    partial = frozenset(names)
    if isinstance(source, MixtureSource):
        partial |= source.partial_modalities
    return Problem(
        {**source.modalities, **names},
        source.target_dim,
        episodes,
        partial=partial,
        texts=source.texts if size else source.texts | names.keys(),
        kinds=source.kinds,
        shown=_shown(source, episodes),
        label_separator=getattr(source, "label_separator", ""),
        training_mean=getattr(source, "training_mean", None),
    )


def _shown(
    source: EpisodeSource, episodes: Mapping[str, EpisodeShape]
) -> dict[str, frozenset[str]]:
    """Return a phrase for each set of examples -> the modalities that they may have."""
    shown: dict[str, frozenset[str]] = {}
    for split, shape in episodes.items():
        where = f"in {split!r}"
        having = {where: frozenset(source.modalities)}
        if isinstance(source, MixtureSource):
            parts = source.modalities_of_parts(shape)
            having = {f"of part {label!r} {where}": has for label, has in parts.items()}
        for where, has in having.items():
            support = has & set(shape.support_modalities or has)
            names = {CLASS_TEXT} if shape.class_text else set()
            shown[f"support examples {where}"] = support | names
            shown[f"query examples {where}"] = has & set(shape.query_modalities or has)
    return shown
