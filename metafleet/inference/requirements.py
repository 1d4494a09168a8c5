"""Detection of the modalities that a model uses, and of those that it can do without."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metafleet.episode import CLASS_TEXT, ExampleSet, presence_key
from metafleet.inference.blueprint import Blueprint
from metafleet.learners.base import Learner
from metafleet.models.registry import MODELS, looked_at
from metafleet.params import MetaState

_PER_CLASS = 2
_N_REGRESSED = 4


@dataclass(frozen=True, slots=True)
class Needs:
    """The modalities that a model uses. A modality that the model ignores is in neither group.

    Attributes:
        required: every item must have all of these.
        optional: items may lack these, as long as they have at least one modality.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """All modalities that the model uses."""
        return self.required + self.optional


def find_needs(blueprint: Blueprint, learner: Learner, state: MetaState) -> Needs:
    """Find the modalities that a model uses, from its declaration and by tests with random inputs.

    The model uses a modality if it declares the modality, or if its outputs depend on the
    modality's content. A used modality is optional if the outputs depend on its content while its
    mask marks it present, but not while its mask marks it absent. All other used modalities are
    required. A declared modality that had no effect in the tests is therefore required. Such a
    modality occurs, for example, with a decision tree that reads only a few numbers.
    """
    modalities = tuple(name for name in blueprint.problem.modalities if name != CLASS_TEXT)
    if len(modalities) == 1:
        return Needs(modalities)
    probe = Probe(blueprint, learner, state)
    # a user's own model need not declare anything, so it is not imported again
    is_built_in = blueprint.model["name"] in MODELS
    said = looked_at(blueprint.model, blueprint.problem) if is_built_in else set()
    seen = [name for name in modalities if probe.depends_on(name, is_present=True)]
    free = [name for name in seen if not probe.depends_on(name, is_present=False)]
    known = [name for name in modalities if name in seen or name in said]
    return Needs(tuple(name for name in known if name not in free), tuple(free))


class Probe:
    """A learner with random support examples and random queries."""

    def __init__(self, blueprint: Blueprint, learner: Learner, state: MetaState) -> None:
        self._blueprint, self._learner, self._state = blueprint, learner, state
        problem = blueprint.problem
        shape = next(iter(problem.episodes.values()))
        self._n_way = shape.n_way
        if problem.is_regression:
            n = _N_REGRESSED
            targets = torch.linspace(-1.0, 1.0, n * problem.target_dim).view(n, -1)
        else:
            targets = torch.arange(self._n_way).repeat_interleave(_PER_CLASS)
            if problem.is_multi_label:
                targets = torch.eye(self._n_way)[targets]
        self._n = len(targets)
        self._support = ExampleSet(self.inputs(seed=1) | self.masks(), targets)

    def depends_on(self, modality: str, *, is_present: bool) -> bool:
        """Return whether outputs change with the content of a modality."""
        inputs, masks = self.inputs(seed=2), self.masks()
        if not is_present:
            masks[presence_key(modality)] = torch.zeros(self._n)
        changed = {**inputs, modality: self.inputs(seed=3)[modality]}
        return not torch.equal(self.outputs(inputs | masks), self.outputs(changed | masks))

    def outputs(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs for queries after adaptation to the random examples."""
        return self._learner.predict(self._state, self._support, inputs, self._n_way)

    def inputs(self, *, seed: int) -> dict[str, Tensor]:
        """Draw as many queries as there are support examples."""
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for name, shape in self._blueprint.problem.modalities.items():
            values = torch.randint(1, 256, (self._n, *shape), generator=generator).float()
            # texts are bytes; everything else is small numbers
            found[name] = values if name in self._blueprint.problem.texts else values / 255
        return found

    def masks(self) -> dict[str, Tensor]:
        """Return masks that mark every modality of every query present."""
        names = self._blueprint.problem.modalities
        return {presence_key(name): torch.ones(self._n) for name in names}
