"""Determines how the modalities of a run's data set are read from files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from metafleet.data.decoding.registry import get_decoder, has_decoder
from metafleet.data.mixture import Mixture
from metafleet.data.prepared.decoder_values import decoder_values
from metafleet.data.prepared.prepared import PreparedData
from metafleet.data.registry import open_data
from metafleet.episode import CLASS_TEXT
from metafleet.errors import ConfigError
from metafleet.inference.brightness import mean_brightness
from metafleet.inference.class_text_spec import ClassTextSpec
from metafleet.inference.input_spec import InputSpec


def input_specs(
    data: Mapping[str, Any], data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> dict[str, InputSpec]:
    """Return modality -> input spec, for a run's data set; {} if examples are computed.

    For a mixture, the result has the specs of all parts, under the names that the modalities have
    in the mixture.

    Args:
        data: name and options of the data set.
        data_dir: folder of prepared data.
        allowed_packages: the user's packages from which data sets may be imported.

    Raises:
        ConfigError: a modality cannot be read from files, or two parts of a mixture read it
            differently.
        DataMissingError: the data are not on this machine.
    """
    bound = open_data(data, data_dir, allowed_packages=allowed_packages)
    if isinstance(bound.dataset, Mixture):
        return _of_parts(bound.dataset.parts(bound.options), data_dir, allowed_packages)
    found = bound.open_classes()
    if found is None:
        return {}
    prepared = found.prepared
    return {
        modality: InputSpec.of(
            prepared.arrays[modality],
            decoder_values(prepared, modality),
            _brightness(prepared, modality),
            prepared.encoders.get(modality),
        )
        for modality in found.modalities
    }


def class_text_spec(
    data: Mapping[str, Any], data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> ClassTextSpec | None:
    """Return how a run's data set encodes names of classes; None if it does not encode them.

    Raises:
        ConfigError, DataMissingError: as in ``input_specs``.
    """
    bound = open_data(data, data_dir, allowed_packages=allowed_packages)
    found = None if isinstance(bound.dataset, Mixture) else bound.open_classes()
    if found is None or found.prepared.class_text is None:
        return None
    prepared, asked = found.prepared, found.prepared.recipe[CLASS_TEXT]
    options, identity = {"encoder": asked["encoder"]}, prepared.encoders[CLASS_TEXT]
    tower = InputSpec.of(found.prepared.class_text, options, encoder=identity)
    return ClassTextSpec(tower, tuple(asked["prompts"]))


def _of_parts(
    parts: Iterable[tuple[str, Mapping[str, str], Mapping[str, Any]]],
    data_dir: Path,
    allowed_packages: Sequence[str],
) -> dict[str, InputSpec]:
    found: dict[str, tuple[str, InputSpec]] = {}
    brightness: dict[str, list[float | None]] = {}
    for part, names, data in parts:
        specs = input_specs(data, data_dir, allowed_packages=allowed_packages)
        for modality, spec in specs.items():
            name = names.get(modality, modality)
            first, known = found.setdefault(name, (part, spec))
            if _differences(known, spec):
                raise ConfigError(
                    f"modality {name!r} is read in one way in part {first!r} and in another in "
                    f"part {part!r} ({_differences(known, spec)}); train with another name for it, "
                    f'as rename = {{ {modality} = "{part}_{modality}" }}'
                )
            brightness.setdefault(name, []).append(spec.brightness)
    return {
        name: replace(spec, brightness=_between(brightness[name]))
        for name, (_, spec) in found.items()
    }


def _differences(one: InputSpec, other: InputSpec) -> str:
    """Return the differences between two ways of reading; "" if there are none."""
    mine, theirs = (
        {"kind": spec.kind, **spec.options, "shape": spec.shape, "ink as 1": spec.is_inverted}
        for spec in (one, other)
    )
    return ", ".join(
        f"{key} {value!r} and {theirs.get(key)!r}"
        for key, value in mine.items()
        if theirs.get(key) != value
    )


def _between(brightness: Sequence[float | None]) -> float | None:
    """Return the mean of the parts' brightness; very different parts give a medium value."""
    known = [each for each in brightness if each is not None]
    return round(fmean(known), 4) if len(known) == len(brightness) else None


def _brightness(prepared: PreparedData, modality: str) -> float | None:
    kind = prepared.arrays[modality].kind
    info = prepared.arrays[modality]
    if info.encoder or not (has_decoder(kind) and get_decoder(kind).is_picture):
        return None
    mask = prepared.load_mask(modality)
    rows = range(prepared.n_items) if mask is None else np.flatnonzero(mask).tolist()
    return mean_brightness(prepared.load(modality), rows)
