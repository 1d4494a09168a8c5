"""Add corrected items to the support set, and adapt to the larger set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import torch

from metafleet.data.summary import Progress, no_progress
from metafleet.episode import ExampleSet, alike
from metafleet.errors import ConfigError, DataError, ModelError
from metafleet.inference.adapted_model import MOST_SUPPORT_BYTES, AdaptedModel
from metafleet.inference.class_text import with_class_text
from metafleet.inference.given_tensors import check_inputs
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.items import ReadOptions, check_invert, open_items
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.question_queue import Correction, read_queue
from metafleet.inference.sameness import CLASS_NAMES, same_items


def correct(
    model: AdaptedModel,
    queue: str | Path,
    options: ReadOptions | None = None,
    *,
    progress: Progress = no_progress,
) -> AdaptedModel:
    """Add items that a person labelled to the support set; return a model adapted to all of it.

    If an item of the queue is already in the support set, its label there is replaced by the label
    in the queue.

    Args:
        model: an adapted model that keeps its support set. It is not changed.
        queue: a file that `metafleet predict --ask` wrote, with labels filled in.
        options: options for reading the items' folders. They must be the options that were used for
            the predictions.
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
    by_folder = sorted(corrections, key=lambda one: str(one.folder))
    for folder, group in groupby(by_folder, key=lambda one: one.folder):
        added, told = _read(model, folder, list(group), options, progress)
        support = _joined(support, added, model.learned.blueprint.inputs)
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
    if not any(model.classes.values()):
        raise ConfigError(
            "the model classifies by the names of its classes and has no examples, so corrections "
            "change nothing; adapt with --support FOLDER and --head tip_adapter or another head"
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
    inputs = with_class_text(blueprint, inputs, named)
    check_inputs(blueprint.problem, model.needs, inputs)
    numbers = {name: number for number, name in enumerate(model.classes)}
    examples = ExampleSet(inputs, torch.tensor([numbers[name] for name in named]))
    return _without_copies(examples, found.names, blueprint.inputs), found.notes


def _without_copies(
    examples: ExampleSet, names: Sequence[str], specs: Mapping[str, InputSpec]
) -> ExampleSet:
    """Return the items without copies: of equal items, the first is kept.

    Raises:
        DataError: equal items have different labels.
    """
    first = same_items(examples, examples.inputs, specs).int().argmax(dim=1)
    differ = (examples.targets != examples.targets[first]).nonzero().flatten()
    if len(differ):
        one, other = names[int(first[differ[0]])], names[int(differ[0])]
        raise DataError(
            f"items {one!r:.80} and {other!r:.80} are copies of each other and have different "
            "labels; expected one label"
        )
    return examples.rows(first == torch.arange(len(examples)))


def _joined(support: ExampleSet, added: ExampleSet, specs: Mapping[str, InputSpec]) -> ExampleSet:
    """Add examples to the support set. If an example is already there, replace its target.

    If class names are an input, the name of the example's class is replaced too.
    """
    support, inputs = alike(support, added.inputs)
    targets = support.targets.clone()
    names = {n: support.inputs[n].clone() for n in CLASS_NAMES if n in support.inputs}
    own = {n: values for n, values in support.inputs.items() if n not in names}
    fresh = []
    every = same_items(support, inputs, specs)
    for row, (same, target) in enumerate(zip(every, added.targets, strict=True)):
        targets[same] = target
        for name, values in names.items():
            values[same] = inputs[name][row]
        if not bool(same.any()):
            fresh.append(row)
    joined = {n: torch.cat([v, inputs[n][fresh]]) for n, v in {**own, **names}.items()}
    return ExampleSet(joined, torch.cat([targets, added.targets[fresh]]))
