"""How to read the examples of one modality from files as they were in training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from metafleet.data.decoding.features import check_encoder, encoder_of, example_of
from metafleet.data.decoding.registry import DECODERS, get_decoder, has_decoder
from metafleet.data.prepared.class_data import example_shape, is_ink
from metafleet.data.prepared.prepared import ArrayInfo
from metafleet.encoders.choice import EncoderChoice
from metafleet.encoders.own_encoder import import_encoders
from metafleet.encoders.registry import is_elsewhere, with_absolute_path
from metafleet.errors import ConfigError, DataMissingError, ModelError
from metafleet.options import parse_options, parse_record, require


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A modality as an input of a model.

    Attributes:
        kind: kind of the decoder that reads the modality; see ``metafleet.data.decoding``.
        version: version of the decoder.
        options: options of the decoder, JSON values.
        shape: shape of one example.
        is_inverted: whether pictures are inverted after they are read, so that black ink is 1 and
            white paper is 0.
        brightness: mean value of the training pictures, in [0, 1], in the form in which the model
            gets them; None if unknown.
        is_swapped: whether ``is_inverted`` differs from the value that it had in training.
        encoder: identity of the pretrained encoder whose features the model gets; {} if there is no
            encoder, or if an older version of Metafleet wrote the model.
    """

    kind: str
    version: int
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    is_inverted: bool = False
    brightness: float | None = None
    is_swapped: bool = False
    encoder: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_sound = self.brightness is None or 0.0 <= self.brightness <= 1.0
        require(is_sound, "brightness", self.brightness, "a number in [0, 1]")
        weights = self.encoder.get("weights", {})
        is_sound = isinstance(weights, Mapping) and all(
            isinstance(v, str) for v in weights.values()
        )
        require(is_sound, "encoder.weights", weights, "file -> sha256")

    @classmethod
    def of(
        cls,
        info: ArrayInfo,
        options: Mapping[str, Any],
        brightness: float | None = None,
        encoder: Mapping[str, Any] | None = None,
    ) -> "InputSpec":
        """Describe a prepared array. The decoder's size options are derived from the array's shape.

        Args:
            info: the array.
            options: options of its decoder.
            brightness: as in the attributes of ``InputSpec``.
            encoder: as in the attributes of ``InputSpec``.

        Raises:
            ConfigError: no decoder produces examples of the array's shape.
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
        return cls(
            info.kind,
            decoder.version,
            reading_values(parsed),
            shape,
            is_inverted,
            brightness,
            encoder=encoder or {},
        )

    @classmethod
    def of_encoder(cls, kind: str, name: str, options: Mapping[str, Any]) -> "InputSpec":
        """Describe features of a pretrained encoder.

        Args:
            kind: kind of the items.
            name: the encoder's name.
            options: options of the decoder, apart from the encoder's name.

        Raises:
            ConfigError: the kind, the encoder or an option is unknown.
            DataMissingError, DataCorruptError: weights or libraries are missing or damaged.
        """
        if kind not in DECODERS:
            known = ", ".join(DECODERS)
            raise ConfigError(f"there is no kind of data {kind!r:.40}; expected one of {known}")
        decoder = get_decoder(kind)
        where, path = f"kind {kind!r}", with_absolute_path(name)
        parsed = parse_options(decoder.Options, {**options, "encoder": path}, where=where)
        encoder = encoder_of(kind, parsed)
        if encoder is None:
            raise ConfigError(f"encoder={name!r} of {kind!r} is none; give the name of one")
        if parsed.views > 1:
            raise ConfigError(
                f"views={parsed.views} of {kind!r}; expected 1: only meta-training draws views, "
                "and nothing is trained here"
            )
        identity = encoder.identity()  # first: says what to install
        shape = example_of(kind, parsed)[1]
        return cls(kind, decoder.version, reading_values(parsed), shape, encoder=identity)

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

    def require_encoder(self, modality: str, *, advice: str) -> None:
        """Check that the encoder, if any, is on this machine and is the encoder of the model.

        Args:
            modality: name of the modality, for the message.
            advice: what to do instead of installing the model's weights.

        Raises:
            ModelError: the encoder's weights, preprocessing or pooling differ from those of the
                model's encoder.
            ConfigError, DataMissingError, DataCorruptError: for the same reasons as
                ``check_encoder``.
        """
        options = self.decoder_options()
        try:
            check_encoder(self.kind, options)
        except DataMissingError as error:
            if not is_elsewhere(options.encoder):
                raise
            source = options.encoder.partition(":")[0]
            raise DataMissingError(
                f"{error}; if a model's encoder has moved, give --encoder {modality}={source}:PATH"
            ) from error
        encoder = encoder_of(self.kind, options)
        if encoder is None or not self.encoder:
            return
        found, wanted = _deciding(encoder.identity()), _deciding(self.encoder)
        differing = sorted(k for k in found | wanted if found.get(k) != wanted.get(k))
        if differing:
            first = differing[0]
            raise ModelError(
                f"encoder {encoder.name!r} has other {first} here than the model was made with "
                f"({_told(found.get(first))}; expected {_told(wanted.get(first))}); install those, "
                f"or {advice}"
            )

    def with_encoder(self, modality: str, name: str) -> "InputSpec":
        """Return the spec with another name of its encoder, such as the new path of a folder.

        This function does not check the new encoder. ``require_encoder`` checks later that it is
        the encoder of the model.

        Raises:
            ConfigError: the modality has no encoder.
            ModelError: the model does not identify its encoder, because an older version wrote it.
        """
        if not self.is_encoded:
            raise ConfigError(
                f"input {modality!r} of the model has no encoder; leave --encoder out"
            )
        if not self.encoder:
            raise ModelError(
                f"the model does not identify the encoder of {modality!r}, so another one cannot "
                "be compared with it; adapt again"
            )
        return replace(self, options={**self.options, "encoder": with_absolute_path(name)})

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
        """Parse the values that ``to_json`` returned. If the decoder is a user's, import it.

        Raises:
            ModelError: the values are damaged, or were written by another version of the decoder.
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


def reading_values(options: Any) -> dict[str, Any]:
    """Return decoder options as JSON values, with an absolute path of the encoder.

    The options of views are left out, because only meta-training uses several views.
    """
    if not isinstance(options, EncoderChoice):
        return asdict(options)
    options = replace(options, encoder=with_absolute_path(options.encoder))
    return {name: it for name, it in asdict(options).items() if name not in ("views", "flip")}


def _deciding(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what determines the features, except for last bits, which depend on versions."""
    deciding = {key: value for key, value in identity.items() if key != "versions"}
    return dict(json.loads(json.dumps(deciding)))  # as a model's folder gives it back


def _told(value: object) -> str:
    """Shorten a part of an identity for messages; keep only the beginning of a digest."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {it!s:.16}" for name, it in list(value.items())[:2])
    return f"{value!s:.80}"
