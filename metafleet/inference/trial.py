"""Writing of a model that is read back and tested before it is moved into place."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from metafleet.errors import MetafleetError, ModelError
from metafleet.inference.card.rendering import render_card
from metafleet.inference.kept_encoders import files_of_encoders
from metafleet.inference.kept_model import KeptModel, read_model
from metafleet.inference.model_folder import write_model
from metafleet.inference.requirements import Probe
from metafleet.params import digest

Answer = Callable[[KeptModel, Mapping[str, Tensor]], Tensor]
"""Computes a model's outputs from inputs, modality -> [n, ...]."""

_TOLERANCE = 1e-5
"""Relative to the largest output: tensors at other addresses may round differently."""


def write_tried(
    model: KeptModel,
    folder: Path,
    answer: Answer,
    *,
    force: bool,
    sample: Mapping[str, Tensor] | None = None,
    with_encoder: bool = False,
) -> None:
    """Write a model atomically. Before the final rename, read it back and compare outputs.

    Args:
        model: the model to write.
        folder: the target folder.
        answer: a function that takes a model of this kind and inputs, and returns the model's
            outputs.
        force: whether to replace an existing model.
        sample: inputs for the comparison. By default, the inputs are random, if the model accepts
            random inputs.
        with_encoder: whether to copy the weights of pretrained encoders into the folder.

    Raises:
        ModelError: the folder exists or cannot be written, reading it back gives a different model,
            or the encoders cannot be copied.
    """

    def check(written: Path) -> None:
        _try_written(model, written, answer, sample or {})

    files = files_of_encoders(model.learned.blueprint) if with_encoder else {}
    write_model(
        folder,
        model.header(),
        model.tensors(),
        render_card(model),
        force=force,
        check=check,
        encoder_files=files,
    )


def _try_written(
    model: KeptModel, folder: Path, answer: Answer, sample: Mapping[str, Tensor]
) -> None:
    """Load the written model, and compare its tensors and outputs with those of ``model``.

    Raises:
        ModelError: the written model does not load, or it differs from ``model``.
    """
    try:
        written = read_model(folder, allowed_packages=model.learned.allowed_packages)
        if (written.needs is None) != (model.needs is None):
            raise ModelError("it came back as another kind of model")
        if (written.needs, list(written.classes)) != (model.needs, list(model.classes)):
            raise ModelError("its classes or needs came back changed")
        if digest(written.tensors()) != digest(model.tensors()):
            raise ModelError("its tensors came back changed")
        _compare(model, written, answer, sample)
    except MetafleetError as error:
        why = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "it")
        raise ModelError(
            f"the model was not written, for it could not be read back: {why}"
        ) from error


def _compare(
    model: KeptModel, written: KeptModel, answer: Answer, sample: Mapping[str, Tensor]
) -> None:
    if sample:
        wanted, found = answer(model, sample), answer(written, sample)
    else:
        try:
            wanted = answer(model, _random(model))
        except Exception:  # a user's encoder may reject random numbers
            return
        found = answer(written, _random(written))
    if not _are_close(wanted, found):
        raise ModelError("it answers otherwise when it is read back")


def _random(model: KeptModel) -> dict[str, Tensor]:
    learned = model.learned
    probe = Probe(learned.blueprint, learned.learner, learned.state)
    inputs = probe.inputs(seed=2)
    if model.needs is None:
        return inputs | probe.masks()
    return {name: inputs[name] for name in model.needs.known}


def _are_close(wanted: Tensor, found: Tensor) -> bool:
    if wanted.shape != found.shape:
        return False
    largest = float(wanted.abs().nan_to_num(posinf=1.0).max()) if wanted.numel() else 0.0
    atol = _TOLERANCE * max(largest, 1.0)
    return torch.allclose(wanted, found, rtol=0.0, atol=atol, equal_nan=True)
