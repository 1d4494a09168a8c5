"""How to read the examples of one modality from files as they were in training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from metafleet.data.decoding.features import example_of
from metafleet.data.decoding.registry import DECODERS, get_decoder, has_decoder
from metafleet.data.mixture import Mixture
from metafleet.data.prepared.class_data import example_shape, is_ink
from metafleet.data.prepared.prepared import MEASURED, ArrayInfo, PreparedData
from metafleet.data.registry import open_data
from metafleet.encoders.choice import EncoderChoice
from metafleet.encoders.own_encoder import import_encoders
from metafleet.errors import ConfigError, ModelError
from metafleet.inference.brightness import mean_brightness
from metafleet.options import parse_options, parse_record, require


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A modality as an input of a model.

    Attributes:
        kind: kind of the decoder that reads the modality; see ``metafleet.data.decoding``.
        version: version of the decoder.
        options: options of the decoder, JSON values.
        shape: shape of one example.
        is_inverted: whether pictures have ink as 1 and paper as 0.
        brightness: mean of the training pictures as model inputs, in [0, 1]; None if unknown.
        is_swapped: whether ``is_inverted`` differs from its value in training.
    """

    kind: str
    version: int
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    is_inverted: bool = False
    brightness: float | None = None
    is_swapped: bool = False

    def __post_init__(self) -> None:
        is_sound = self.brightness is None or 0.0 <= self.brightness <= 1.0
        require(is_sound, "brightness", self.brightness, "a number in [0, 1]")

    @classmethod
    def of(
        cls, info: ArrayInfo, options: Mapping[str, Any], brightness: float | None = None
    ) -> "InputSpec":
        """Describe a prepared array. The decoder's size options are derived from the array's shape.

        Raises:
            ConfigError: no decoder produces such examples.
        """
        if not has_decoder(info.kind):
            raise ConfigError(
                f"examples of {info.kind!r} are of no kind that is read from files; give the data "
                "set's class `kinds`"
            )
        decoder, shape = get_decoder(info.kind), example_shape(info)
        sizes = {} if info.encoder else decoder.sizes(shape)
        parsed = parse_options(decoder.Options, {**options, **sizes}, where="")
        if example_of(info.kind, parsed)[1] != shape:
            raise ConfigError(
                f"examples of {info.kind} of shape {list(shape)} are not made by the decoder here, "
                "so no files can be read for them"
            )
        is_inverted = is_ink(info.kind, info.shape)
        return cls(info.kind, decoder.version, asdict(parsed), shape, is_inverted, brightness)

    @property
    def is_text(self) -> bool:
        """Return whether examples are bytes of a text, not features of it."""
        return get_decoder(self.kind).is_text and not self.is_encoded

    @property
    def is_encoded(self) -> bool:
        """Return whether examples are features of a pretrained encoder."""
        options = self.decoder_options()
        return isinstance(options, EncoderChoice) and options.is_encoded

    @property
    def is_picture(self) -> bool:
        """Return whether an example is a picture, whose light and dark can be swapped."""
        return get_decoder(self.kind).is_picture and not self.is_encoded

    def decoder_options(self) -> Any:
        """Return the options in the decoder's own form.

        Raises:
            ConfigError: an option is wrong.
        """
        return parse_options(
            get_decoder(self.kind).Options, self.options, where=f"decoder {self.kind!r}"
        )

    def with_light_and_dark_swapped(self) -> "InputSpec":
        """Return the spec for pictures whose light and dark are swapped against training."""
        if not self.is_picture:
            return self
        return replace(self, is_inverted=not self.is_inverted, is_swapped=not self.is_swapped)

    def with_light_and_dark_as_trained(self) -> "InputSpec":
        """Return the spec for pictures like those of training."""
        return self.with_light_and_dark_swapped() if self.is_swapped else self

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(
        cls, modality: str, values: Any, *, allowed_packages: Sequence[str] = ()
    ) -> "InputSpec":
        """Parse the values that ``to_json`` returned. A user's decoder is imported.

        Raises:
            ModelError: the values are damaged, or another version of the decoder wrote them.
            ConfigError: an option is wrong, or a package is not allowed.
        """
        found = parse_record(cls, values, where=f"input {modality!r}", error=ModelError)
        if not has_decoder(found.kind):
            raise ModelError(
                f"input {modality!r} is of kind {found.kind!r:.40}; expected one of "
                f"{', '.join(DECODERS)}, or a class of yours"
            )
        decoder = get_decoder(found.kind, allowed_packages=allowed_packages)
        if found.version != decoder.version:
            raise ModelError(
                f"input {modality!r} was made by version {found.version} of the decoder of "
                f"{found.kind}, here is {decoder.version}; adapt again from a run of this version"
            )
        import_encoders(found.options, allowed_packages=allowed_packages)
        found.decoder_options()
        return found


def input_specs(
    data: Mapping[str, Any], data_dir: Path, *, allowed_packages: Sequence[str] = ()
) -> dict[str, InputSpec]:
    """Return the input specs of a run's data set; {} for computed data.

    For a mixture, the specs are those of its parts, by their names in the mixture.

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
            _decoding(prepared, modality),
            _brightness(prepared, modality),
        )
        for modality in found.modalities
    }


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
    """Return the mean of the parts' brightness; parts that differ a lot average to medium."""
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


def _decoding(prepared: PreparedData, modality: str) -> dict[str, Any]:
    """Return the decoder options in the recipe of prepared data."""
    recipe = prepared.recipe.get(modality) or prepared.recipe.get("columns", {}).get(modality)
    if isinstance(recipe, Mapping) and "options" in recipe:
        return dict(recipe["options"])
    kind = prepared.arrays[modality].kind
    own = (table for table in prepared.recipe.get("kinds", ()) if table["name"] == kind)
    by_kind = next(own, prepared.recipe.get(kind))  # for the user's own folders
    measured = prepared.recipe.get(MEASURED, {}).get(modality, {})
    return {**(by_kind if isinstance(by_kind, Mapping) else {}), **measured}
