"""Copies of the weights of pretrained encoders in the folder of a model.

If a model has such copies, a machine without the package of the encoder can also predict with the
model. The header of the model maps the sha256 of each published file to the name, size and sha256
of the file's copy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metafleet.data.decoding.features import encoder_of
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.weights import keep
from metafleet.errors import ModelError
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.model_folder import check_file


def files_of_encoders(blueprint: Blueprint) -> dict[str, tuple[str, bytes]]:
    """Return the copies: sha256 of a published file -> name and content of the file's copy.

    Raises:
        ModelError: there is no encoder, or the weights of an encoder cannot be copied.
        DataMissingError, DataCorruptError: weights are missing or damaged.
    """
    require_files(blueprint)
    return {
        file.sha256: (file.kept_name, file.content_to_keep(encoder.name))
        for encoder in _encoders(blueprint)
        for file in encoder.packaged
    }


def require_files(blueprint: Blueprint) -> None:
    """Check that a model has encoders whose weights can be copied.

    Raises:
        ModelError: the model has no encoder, or the weights of an encoder cannot be copied.
    """
    encoders = _encoders(blueprint)
    if not encoders:
        raise ModelError("--with-encoder: the model has no pretrained encoder; leave it out")
    for encoder in encoders:
        if not encoder.packaged:
            raise ModelError(
                f"--with-encoder: the weights of {encoder.name!r} cannot be kept with a model; "
                "leave it out, and copy the encoder's own folder to where the model is used"
            )


def use_kept_files(folder: Path, header: Mapping[str, Any]) -> None:
    """Use the copies in a model's folder if the packages of the encoders are not installed.

    Raises:
        ModelError: a copy is missing or damaged.
        ValueError, TypeError, KeyError: the header is damaged.
    """
    for sha256, promised in dict(header.get("encoder_files", {})).items():
        name = str(promised["file"])
        if Path(name).name != name:
            raise ValueError(f"file {name!r:.40}")
        try:
            check_file(folder / name, promised)
        except OSError as error:
            raise ModelError(
                f"{folder / name} cannot be read ({error.strerror or error}); make the model again"
            ) from error
        keep(str(sha256), (folder / name).absolute())


def _encoders(blueprint: Blueprint) -> list[PretrainedEncoder]:
    found = (encoder_of(it.kind, it.decoder_options()) for it in blueprint.inputs.values())
    return [encoder for encoder in found if encoder is not None]
