"""Validation of tensors that a user passes in place of files."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metafleet.episode import ExampleSet, completed, is_presence_key, presence_key
from metafleet.episodes.class_targets import check_classes
from metafleet.errors import DataError
from metafleet.inference.labelling import check_label_targets
from metafleet.inference.requirements import Needs
from metafleet.models.presence import presence
from metafleet.problem import Problem


def check_inputs(problem: Problem, needs: Needs, inputs: Mapping[str, Tensor]) -> None:
    """Check that inputs have the names, shapes and kinds of values that inputs had in training.

    Raises:
        DataError: a modality is missing or unknown, a tensor is not float32 [n, *shape] with finite
            numbers, a mask is not float32 [n] of 0 and 1, the tensors differ in n, or n is 0.
    """
    for name in needs.required:
        if name not in inputs:
            listed = list(needs.required)
            raise DataError(f"modality {name!r} is missing; the model needs {listed}")
    if not any(name in inputs for name in needs.known):
        raise DataError(f"no modality is there; the model looks at {list(needs.known)}")
    for name, values in inputs.items():
        _check_tensor(problem, name, values)
    lengths = {name: values.shape[0] for name, values in inputs.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name!r} has {n}" for name, n in lengths.items())
        raise DataError(f"inputs have different numbers of examples: {found}; give as many of each")
    if 0 in lengths.values():
        raise DataError("inputs have 0 examples; give 1 or more")
    for name, values in inputs.items():
        _check_values(name, values)
    _check_presence(needs, inputs)


def check_support(problem: Problem, needs: Needs, support: ExampleSet, n_classes: int) -> None:
    """Check that a support set has the form that support sets had in training.

    Raises:
        DataError: the inputs, the targets or the number of classes is wrong.
    """
    check_inputs(problem, needs, support.inputs)
    if not problem.is_regression:
        if n_classes < 2:
            raise DataError(f"there are {n_classes} classes; expected 2 or more to tell apart")
        if problem.is_multi_label:
            check_label_targets(support.targets, n_classes)
            return
        check_classes(support, n_classes, whose="support")
        return
    if n_classes:
        raise DataError(f"there are {n_classes} classes; the model learns values: give none")
    expected = (len(support), problem.target_dim)
    targets = support.targets
    if tuple(targets.shape) != expected or targets.dtype != torch.float32:
        raise DataError(f"targets are {_shown(targets)}; expected float32 {list(expected)}")
    _check_values("targets", targets)


def complete_support(problem: Problem, needs: Needs, support: ExampleSet) -> ExampleSet:
    """Add the optional modalities that the support set lacks, with masks that mark them absent.

    The learner then also stores what it needs for queries that have these modalities, such as batch
    statistics. Targets that are classes are converted to int64, which the losses require.
    """
    absent = [name for name in needs.optional if name not in support.inputs]
    shapes = {name: problem.modalities[name] for name in absent}
    masks = {presence_key(name) for name in absent}
    has_classes = not problem.is_regression and not problem.is_multi_label
    targets = support.targets.long() if has_classes else support.targets
    return ExampleSet(completed(support.inputs, shapes, masks), targets)


def _check_tensor(problem: Problem, name: str, values: object) -> None:
    modality = name.removesuffix(".present")
    if modality not in problem.modalities:
        known = ", ".join(problem.modalities)
        raise DataError(f"modality {name!r} is unknown; the model reads {known}")
    if not isinstance(values, Tensor):
        kind = type(values).__name__
        raise DataError(f"{name!r} is a {kind}; expected a tensor, as `torch.as_tensor` makes it")
    shape = () if is_presence_key(name) else problem.modalities[modality]
    if values.dim() == 0 or values.shape[1:] != shape or values.dtype != torch.float32:
        expected = ", ".join(["n", *map(str, shape)])
        raise DataError(
            f"{name!r} is {_shown(values)}; expected float32 [{expected}], as in training"
        )


def _check_values(name: str, values: Tensor) -> None:
    rows = values.detach().flatten(1) if values.dim() > 1 else values.detach()[:, None]
    is_right = (rows == 0) | (rows == 1) if is_presence_key(name) else rows.isfinite()
    wrong = (~is_right).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        expected = "0 or 1" if is_presence_key(name) else "finite numbers"
        raise DataError(
            f"{name!r} holds {rows[row, place].item()} in example {row}; expected {expected}"
        )


def _check_presence(needs: Needs, inputs: Mapping[str, Tensor]) -> None:
    """Check that no mask marks a missing modality present, and that no example is empty."""
    for name, values in inputs.items():
        modality = name.removesuffix(".present")
        if modality not in inputs and bool(values.any()):
            raise DataError(
                f"{name!r} says that examples have {modality!r}, which is not among the inputs; "
                "give it, or leave the mask out"
            )
    masks = [presence(inputs, name) for name in needs.known if name in inputs]
    empty = (torch.stack(masks).sum(dim=0) == 0).nonzero()
    if len(empty):
        raise DataError(
            f"example {empty[0].item()} has none of {list(needs.known)}; expected one at least"
        )


def _shown(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
