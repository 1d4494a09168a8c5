"""Describes a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metafleet.data.registry import encoder_identities, open_data
from metafleet.describing.description import Description, Landmark
from metafleet.describing.embedding import embed
from metafleet.describing.episodes import SHOTS, Sample, find_sample
from metafleet.describing.figures import figures_of
from metafleet.describing.landmarks import landmark
from metafleet.encoders.identity import describe_identity
from metafleet.episodes.source import EpisodeSource
from metafleet.errors import ConfigError
from metafleet.problem import FEATURES

NO_ENCODER = (
    "no modality has a pretrained encoder, so there are no frozen landmarks and no embedding"
)


def describe_data(
    options: Mapping[str, Any], data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> Description:
    """Describe prepared data. The same data always have the same description.

    Only sizes are of all splits; landmarks and embeddings use meta-training alone.

    Args:
        options: name and options of the data set.
        data_dir: folder of the prepared data.
        allowed_packages: user packages that may be imported.

    Raises:
        ConfigError: an option is wrong.
        DataError: the data are not prepared, or damaged.
    """
    bound = open_data(options, data_dir, allowed_packages=allowed_packages)
    summary, source = bound.summarise(), bound.open_source()
    frozen = [m for m in source.modalities if source.kinds.get(m) == FEATURES]
    raw = [m for m in source.modalities if m not in frozen]
    notes = [] if frozen else [NO_ENCODER]
    if not raw:
        notes.append("every modality has a pretrained encoder, so there are no raw landmarks")
    landmarks: list[Landmark] = []
    embeddings: dict[str, tuple[float, ...]] = {}
    for k_shot in SHOTS:
        sample = _find_sample(source, k_shot)
        if isinstance(sample, str):
            notes.append(sample)
            continue
        landmarks += [
            landmark(sample, inputs, chosen)
            for inputs, chosen in (("raw", raw), ("frozen", frozen))
            if chosen
        ]
        if frozen:  # of several samples, the one with most items counts
            identities = encoder_identities(options, data_dir, allowed_packages=allowed_packages)
            embeddings = _embeddings(sample, frozen, identities)
    return Description(
        name=summary.name,
        digest=summary.digest,
        figures=figures_of(summary, source),
        landmarks=tuple(landmarks),
        embeddings=embeddings,
        notes=tuple(dict.fromkeys(notes)),
    )


def _find_sample(source: EpisodeSource, k_shot: int) -> Sample | str:
    if getattr(source, "label_separator", ""):
        return "items have several labels, so there are no nearest prototypes"
    try:
        return find_sample(source, k_shot)
    except ConfigError as error:
        return f"no episodes can be drawn ({error})"


def _embeddings(
    sample: Sample, frozen: Sequence[str], identities: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[float, ...]]:
    """Return encoder -> embedding; the first modality of several with the same encoder counts."""
    found: dict[str, tuple[float, ...]] = {}
    for modality in frozen:
        encoder = describe_identity(identities.get(modality, {})) or modality
        numbers = None if encoder in found else embed(sample, modality)
        if numbers is not None:
            found[encoder] = numbers
    return found
