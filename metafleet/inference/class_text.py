"""Names of classes as a modality, for models whose support sets in training include these names."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metafleet.data.importing.class_names import composed, is_printable, plain
from metafleet.episode import CLASS_TEXT, presence_key
from metafleet.episodes.class_names import name_bytes, words_of
from metafleet.errors import ConfigError
from metafleet.inference.blueprint import Blueprint
from metafleet.problem import Problem


def checked_names(given: Sequence[str]) -> list[str]:
    """Return names of classes in Unicode's form NFC, without leading and trailing spaces.

    Raises:
        ConfigError: there are too few names, two names are equal, a name is empty, or a model would
            read two names as the same text.
    """
    names = [composed(name.strip()) for name in given]
    for name in names:
        if not (is_printable(name) and words_of(name).strip()):
            raise ConfigError(f"the name {name!r:.80} of a class; expected printable words")
    if len(set(names)) < max(2, len(names)):
        raise ConfigError(f"classes={names!r:.80}; expected 2 or more different names")
    first: dict[str, str] = {}
    for name in names:
        known = first.setdefault(plain(words_of(name)), name)
        if known != name:
            raise ConfigError(
                f"classes {known!r:.80} and {name!r:.80} differ only in case, spaces, underscores, "
                "dashes or slashes; give names of different words"
            )
    return names


def with_class_text(
    blueprint: Blueprint, inputs: Mapping[str, Tensor], labels: Sequence[str]
) -> dict[str, Tensor]:
    """Add the names of the support examples' classes, if the problem has them.

    Raises:
        The errors of ``ClassTextSpec.rows``.
    """
    if CLASS_TEXT not in blueprint.problem.modalities:
        return dict(inputs)
    names = list(dict.fromkeys(labels))
    spec = blueprint.class_text
    if spec is None:
        known = torch.stack([name_bytes(name) for name in names])
    else:
        of_items = [name for name, items in blueprint.inputs.items() if spec.is_of(items)]
        known = spec.rows(names, modality=next(iter(of_items), CLASS_TEXT))
    rows = known[[names.index(label) for label in labels]]
    return {**inputs, CLASS_TEXT: rows, presence_key(CLASS_TEXT): torch.ones(len(rows))}


def without_class_text(problem: Problem, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Mark the class name of queries as absent, if the problem has class names."""
    if CLASS_TEXT not in problem.modalities:
        return inputs
    n = next(iter(inputs.values())).shape[0]
    nothing = {
        CLASS_TEXT: torch.zeros(n, *problem.modalities[CLASS_TEXT]),
        presence_key(CLASS_TEXT): torch.zeros(n),
    }
    return {**inputs, **nothing}
