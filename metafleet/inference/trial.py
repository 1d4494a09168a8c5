"""A model that was written is read back and tried before it takes its place."""

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metafleet.errors import MetafleetError, ModelError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.loading import load_model
from metafleet.inference.model_folder import write_model
from metafleet.inference.requirements import Probe
from metafleet.params import Params, digest, flatten_state, named

_TOLERANCE = 1e-5
"""Of the largest output: the same tensors may lie at other addresses, and round otherwise."""


def write_tried(model: AdaptedModel | LearnedModel, folder: Path, *, force: bool) -> None:
    """Write a model, whole or not at all; ``force`` replaces a model there.

    Raises:
        ModelError: something is there, the disk is full or refuses, or what would be read is
            another model.
    """
    header: dict[str, Any] = {
        "kind": "learned",
        "blueprint": model.learned.blueprint.to_json(),
        "origin": model.learned.origin.to_json(),
    }
    if isinstance(model, AdaptedModel):
        classes = [[name, n] for name, n in model.classes.items()]
        header |= {"kind": "adapted", "classes": classes, "needs": asdict(model.needs)}
    check = partial(_try_written, model)
    write_model(folder, header, _tensors(model), force=force, check=check)


def _try_written(model: AdaptedModel | LearnedModel, folder: Path) -> None:
    """Load what was written, and hold its tensors and outputs against those of ``model``.

    Outputs are those of support examples where they are known; else of random ones, unless the
    model itself cannot take these.

    Raises:
        ModelError: it does not load, or is another model.
    """
    try:
        written = load_model(folder, allowed_packages=model.learned.allowed_packages)
        if isinstance(written, AdaptedModel) and isinstance(model, AdaptedModel):
            if (written.needs, list(written.classes)) != (model.needs, list(model.classes)):
                raise ModelError("its classes or needs came back changed")
        elif type(written) is not type(model):
            raise ModelError("it came back as another kind of model")
        if digest(_tensors(written)) != digest(_tensors(model)):
            raise ModelError("its tensors came back changed")
        _compare(model, written)
    except MetafleetError as error:
        why = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "it")
        raise ModelError(
            f"the model was not written, for it could not be read back: {why}"
        ) from error


def _tensors(model: AdaptedModel | LearnedModel) -> Params:
    memory = model.memory if isinstance(model, AdaptedModel) else {}
    return flatten_state(model.learned.state) | named("memory", memory)


def _compare(model: AdaptedModel | LearnedModel, written: AdaptedModel | LearnedModel) -> None:
    if isinstance(model, AdaptedModel) and model.sample and isinstance(written, AdaptedModel):
        wanted, found = model.logits(model.sample), written.logits(model.sample)
    else:
        try:
            wanted = _outputs_of_random(model)
        except Exception:  # an encoder of a user's may refuse numbers that mean nothing
            return
        found = _outputs_of_random(written)
    if not _are_close(wanted, found):
        raise ModelError("it answers otherwise when it is read back")


def _outputs_of_random(model: AdaptedModel | LearnedModel) -> Tensor:
    learned = model.learned
    probe = Probe(learned.blueprint, learned.learner, learned.state)
    if isinstance(model, LearnedModel):
        return probe.outputs(probe.inputs(seed=2) | probe.masks())
    inputs = probe.inputs(seed=2)
    return model.logits({name: inputs[name] for name in model.needs.known})


def _are_close(wanted: Tensor, found: Tensor) -> bool:
    if wanted.shape != found.shape:
        return False
    largest = float(wanted.abs().nan_to_num(posinf=1.0).max()) if wanted.numel() else 0.0
    atol = _TOLERANCE * max(largest, 1.0)
    return torch.allclose(wanted, found, rtol=0.0, atol=atol, equal_nan=True)
