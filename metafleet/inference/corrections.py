"""Add corrected items to the support set, and adapt to the larger set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from metafleet.data.summary import Progress, no_progress
from metafleet.episode import CLASS_TEXT, ExampleSet, alike, presence_key
from metafleet.errors import ConfigError, DataError, ModelError
from metafleet.inference.adapted_model import MOST_SUPPORT_BYTES, AdaptedModel
from metafleet.inference.class_text import with_class_text
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.items import ReadOptions, check_invert, open_items
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.question_queue import Correction, read_queue

_CLASS_NAMES: Final = (CLASS_TEXT, presence_key(CLASS_TEXT))
_TOLERANCES: Final = {"float32": 1e-5, "float16": 2.0**-10}
"""Type of stored features -> largest relative difference between two features of the same item.

The difference is relative to the norm of the features. Rounding to the next float16 moves a number
by at most this share.
"""


def correct(
    model: AdaptedModel,
    queue: str | Path,
    options: ReadOptions | None = None,
    *,
    progress: Progress = no_progress,
) -> AdaptedModel:
    """Add items that a person has labelled to the support set, and return a model adapted to it.

    If an item is already in the support set, its label is replaced by that in the queue.

    Args:
        model: an adapted model that keeps its support set. It is not changed.
        queue: a file that `metafleet predict --ask` wrote, with labels filled in.
        options: options for reading the items' folders; must be those used for the predictions.
        progress: called with the progress of decoding.

    Raises:
        DataError: the file is not a queue or has no labels, a label is not a class, or an item is
            broken or not in its folder.
        ModelError: the model keeps no support set.
        ConfigError: the model is for regression.
        NumericsError: the adaptation diverged.
    """
    options = options or ReadOptions()
    support = _support_of(model)
    corrections, n_open = read_queue(Path(queue).expanduser(), list(model.classes))
    notes = [f"{len(corrections)} corrections, {n_open} rows of {queue} without a label"]
    check_invert(options, model.learned.blueprint.inputs, model.needs)
    tolerances = _tolerances(model.learned.blueprint.inputs)
    by_folder = sorted(corrections, key=lambda one: str(one.folder))
    for folder, group in groupby(by_folder, key=lambda one: one.folder):
        added, told = _read(model, folder, list(group), options, progress)
        support = _joined(support, added, tolerances)
        notes += told
    order = torch.argsort(support.targets, stable=True)  # by class, as from a folder
    support = ExampleSet({n: v[order] for n, v in support.inputs.items()}, support.targets[order])
    counts = torch.bincount(support.targets, minlength=len(model.classes)).tolist()
    classes = dict(zip(model.classes, counts, strict=True))
    emptied = [name for name, n in classes.items() if n == 0]
    if emptied:
        raise DataError(
            f"{queue} takes the last example of class {emptied[0]!r} away; keep one, or adapt to a "
            "folder without the class"
        )
    corrected = LearnedModel(model.learned).adapt_to(support, classes, model.needs)
    return replace(corrected, notes=tuple(notes))


def _support_of(model: AdaptedModel) -> ExampleSet:
    if not model.classes:
        raise ConfigError("corrections are about classes, but the model predicts values")
    if model.learned.blueprint.problem.is_multi_label:
        raise ConfigError(
            "corrections are about one class an item, but the model gives an item several labels; "
            "add the items to its support set, and adapt again"
        )
    if model.support is None:
        raise ModelError(
            "the model keeps no support set that corrections could be added to: it is of an "
            f"earlier version, was exported without, or had more than {MOST_SUPPORT_BYTES >> 20} "
            "MiB; adapt with --support FOLDER and --correct QUEUE together"
        )
    return model.support


def _read(
    model: AdaptedModel,
    folder: Path,
    corrections: Sequence[Correction],
    options: ReadOptions,
    progress: Progress,
) -> tuple[ExampleSet, tuple[str, ...]]:
    """Read the corrected items of one folder."""
    blueprint = model.learned.blueprint
    if options.invert:
        blueprint = blueprint.with_light_and_dark_swapped()
    labels = {one.item: one.label for one in corrections}
    with open_items(
        folder,
        blueprint.inputs,
        model.needs,
        replace(options, only=tuple(labels)),
        is_labelled=False,
        progress=progress,
    ) as found:
        inputs = found.inputs(range(len(found)))
    named = [labels[name] for name in found.names]
    inputs = with_class_text(blueprint.problem, inputs, named)
    numbers = {name: number for number, name in enumerate(model.classes)}
    return ExampleSet(inputs, torch.tensor([numbers[name] for name in named])), found.notes


def _joined(support: ExampleSet, added: ExampleSet, tolerances: Mapping[str, float]) -> ExampleSet:
    """Add examples. If an example is already in the support set, replace its target.

    If class names are an input, the name of the example's class is replaced too.
    """
    support, inputs = alike(support, added.inputs)
    targets = support.targets.clone()
    names = {n: support.inputs[n].clone() for n in _CLASS_NAMES if n in support.inputs}
    own = {n: values for n, values in support.inputs.items() if n not in names}
    fresh = []
    for row, target in enumerate(added.targets):
        same = _same_as(own, {name: inputs[name][row] for name in own}, tolerances)
        targets[same] = target
        for name, values in names.items():
            values[same] = inputs[name][row]
        if not bool(same.any()):
            fresh.append(row)
    joined = {n: torch.cat([v, inputs[n][fresh]]) for n, v in {**own, **names}.items()}
    return ExampleSet(joined, torch.cat([targets, added.targets[fresh]]))


def _tolerances(specs: Mapping[str, InputSpec]) -> dict[str, float]:
    """Return modality -> relative tolerance, for modalities that are features of an encoder.

    The last bits of features depend on the batch and the machine. Decoded items do not.
    """
    return {
        name: _TOLERANCES[spec.decoder_options().storage]
        for name, spec in specs.items()
        if spec.is_encoded
    }


def _same_as(
    inputs: Mapping[str, Tensor], example: Mapping[str, Tensor], tolerances: Mapping[str, float]
) -> Tensor:
    """Return a mask of the rows that are the same item as an example, bool [n].

    Modalities with a tolerance may differ by this share of the example's norm. All others must be
    equal.
    """
    equal = []
    for name, values in inputs.items():
        wanted = example[name]
        if name in tolerances:
            apart = (values - wanted).double().norm(dim=1)
            equal.append(apart <= tolerances[name] * wanted.double().norm())
        else:
            equal.append((values == wanted).reshape(len(values), -1).all(dim=1))
    return torch.stack(equal).all(dim=0)
