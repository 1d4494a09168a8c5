"""Names of classes as a modality, for models whose support sets in training include these names."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT, CLASS_TEXT_BYTES, presence_key
from metafleet.episodes.class_names import name_bytes
from metafleet.problem import Problem


def with_class_text(
    problem: Problem, inputs: Mapping[str, Tensor], labels: Sequence[str]
) -> dict[str, Tensor]:
    """Add the names of the support examples' classes, if the problem has them."""
    if CLASS_TEXT not in problem.modalities:
        return dict(inputs)
    rows = torch.stack([name_bytes(label) for label in labels])
    return {**inputs, CLASS_TEXT: rows, presence_key(CLASS_TEXT): torch.ones(len(rows))}


def without_class_text(problem: Problem, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Mark the class name of queries as absent, if the problem has class names."""
    if CLASS_TEXT not in problem.modalities:
        return inputs
    n = next(iter(inputs.values())).shape[0]
    nothing = {
        CLASS_TEXT: torch.zeros(n, CLASS_TEXT_BYTES),
        presence_key(CLASS_TEXT): torch.zeros(n),
    }
    return {**inputs, **nothing}
