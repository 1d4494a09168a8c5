"""Episodes of several data sets in one run, so that a meta-batch has heterogeneous tasks.

Source: the setting is that of Vuorio et al. 2019, arXiv:1910.13616 (MMAML). Parts may have inputs
of different kinds, as in Chen et al. 2021 (HetMAML).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metafleet.episode import Episode, EpisodeShape, ExampleSet, presence_key
from metafleet.episodes.sampled_rows import SampledRows
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

if TYPE_CHECKING:
    from metafleet.episodes.source import EpisodeSource


@dataclass(frozen=True, slots=True)
class MixturePart:
    """One data set of a mixture.

    Attributes:
        label: the data set's name in the mixture.
        source: the source of its episodes.
        weight: number of episodes that this part supplies before the next part's turn, >= 1.
        names: a modality's name in the data set -> its name in the mixture, for modalities whose
            two names differ.
    """

    label: str
    source: "EpisodeSource"
    weight: int = 1
    names: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, modality: str) -> str:
        """Return the name in the mixture of a modality of the part."""
        return self.names.get(modality, modality)

    def modalities(self) -> dict[str, tuple[int, ...]]:
        """Return name in the mixture -> shape of one example."""
        return {self.name_of(name): shape for name, shape in self.source.modalities.items()}

    def texts(self) -> frozenset[str]:
        """Return the modalities that are bytes of a text, by their names in the mixture."""
        return frozenset(map(self.name_of, self.source.texts))

    def kinds(self) -> dict[str, str]:
        """Return name in the mixture -> kind of the modality."""
        own = self.source.kinds
        return {self.name_of(name): own.get(name, name) for name in self.source.modalities}

    def training_mean(self, modality: str) -> Tensor:
        """Return the mean example of meta-training, by the modality's name in the mixture."""
        (own,) = self.own((modality,))
        return self.source.training_mean(own)

    def meanings(self) -> dict[str, str]:
        """Return name in the mixture -> kind and meaning of its numbers, for messages."""
        texts, kinds = self.texts(), self.kinds()
        return {
            name: f"of kind {kind!r}, as {'bytes of a text' if name in texts else 'numbers'},"
            for name, kind in kinds.items()
        }

    def own(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """Return the given modalities of the mixture that the part has, by the part's names."""
        return tuple(name for name in self.source.modalities if self.name_of(name) in modalities)


class MixtureSource:
    """Episodes of several parts, interleaved in proportion to their weights.

    The parts take turns in the given order. In each turn, a part supplies as many consecutive
    episodes as its weight. An episode has only the inputs of the part that supplies it.

    Args:
        parts: the data sets; their labels must differ.

    Raises:
        ConfigError: a modality has different shapes or meanings in two parts, a part gives two
            modalities the same name, or the parts differ in ``target_dim`` (0 for classification).
    """

    def __init__(self, parts: Sequence[MixturePart]) -> None:
        self._parts = tuple(parts)
        self._modalities: dict[str, tuple[int, ...]] = {}
        meanings: dict[str, str] = {}
        for part in parts:
            _require_distinct(part)
            own_meanings = part.meanings()
            for name, shape in part.modalities().items():
                known = self._modalities.setdefault(name, shape)
                if known != shape:
                    raise _ambiguous(part, name, f"has shape {shape} but {known}")
                meaning = own_meanings[name]
                known_meaning = meanings.setdefault(name, meaning)
                if known_meaning != meaning:
                    raise _ambiguous(part, name, f"is {meaning} but {known_meaning}")
        for part in parts:
            if getattr(part.source, "label_separator", ""):
                raise ConfigError(
                    f"part {part.label!r} has several labels an item, which a mixture cannot have; "
                    "train on it alone"
                )
            if getattr(part.source, "class_text_size", None):
                raise ConfigError(
                    f"part {part.label!r} has features of the names of classes, which a mixture "
                    "cannot have; train on it alone, or leave class_text out"
                )
        dims = {part.source.target_dim for part in parts}
        if len(dims) != 1:
            found = ", ".join(f"{p.label} has target_dim={p.source.target_dim}" for p in parts)
            raise ConfigError(f"{found}; expected parts that all classify, or all regress alike")
        self._target_dim = dims.pop()

    @property
    def modalities(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of one example in each modality of any part."""
        return self._modalities

    @property
    def texts(self) -> frozenset[str]:
        """Modalities that are bytes of a text in any part."""
        return frozenset().union(*(part.texts() for part in self._parts))

    @property
    def kinds(self) -> Mapping[str, str]:
        """Modality -> its kind, for modalities that are not named after it."""
        kinds = {name: kind for part in self._parts for name, kind in part.kinds().items()}
        return {name: kind for name, kind in kinds.items() if kind != name}

    def training_mean(self, modality: str) -> Tensor:
        """Return the mean over the parts that have the modality, each with the same weight."""
        having = [part for part in self._parts if modality in part.modalities()]
        return torch.stack([part.training_mean(modality) for part in having]).mean(dim=0)

    def modalities_of_parts(self, shape: EpisodeShape) -> dict[str, frozenset[str]]:
        """Return label -> modalities, for the parts that episodes come from."""
        return {part.label: frozenset(part.modalities()) for part in self._chosen(shape)}

    @property
    def partial_modalities(self) -> frozenset[str]:
        """Modalities that not every part has."""
        return frozenset(
            name
            for name in self._modalities
            if any(name not in part.modalities() for part in self._parts)
        )

    @property
    def target_dim(self) -> int:
        """Values to predict for each example; 0 for classification."""
        return self._target_dim

    def n_classes(self, split: str) -> int:
        """Return the number of classes of all parts in ``split``."""
        return sum(part.source.n_classes(split) for part in self._parts)

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Check that every part can fill episodes of this shape.

        Raises:
            ConfigError: a part cannot fill such episodes; the message names the part.
        """
        labels = [part.label for part in self._parts]
        for label in shape.parts:
            if label not in labels:
                known = ", ".join(map(repr, labels))
                raise ConfigError(f"parts holds {label!r}; the mixture has {known}")
        for part in self._chosen(shape):
            try:
                part.source.check(split, _shape_for(part, shape))
            except ConfigError as error:
                raise ConfigError(f"part {part.label!r}: {error}") from error

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses from its part."""
        part = self._part_of(shape, rng.index)
        episode = part.source.sample(split, _shape_for(part, shape), rng)
        return replace(
            episode, support=_renamed(part, episode.support), query=_renamed(part, episode.query)
        )

    def sample_rows(self, split: str, shape: EpisodeShape, rng: CounterRng) -> SampledRows | None:
        """Return the classes and rows of the episode that ``sample`` draws for the same address.

        The result is None if the episode's part has no stored items.
        """
        part = self._part_of(shape, rng.index)
        draw = getattr(part.source, "sample_rows", None)
        if draw is None:
            return None
        found: SampledRows = draw(split, _shape_for(part, shape), rng)
        return replace(found, part=part.label)

    def _chosen(self, shape: EpisodeShape) -> list[MixturePart]:
        return [part for part in self._parts if not shape.parts or part.label in shape.parts]

    def _part_of(self, shape: EpisodeShape, index: int) -> MixturePart:
        chosen = self._chosen(shape)
        place = index % sum(part.weight for part in chosen)
        for part in chosen:
            place -= part.weight
            if place < 0:
                return part
        raise AssertionError("a place below the sum of weights has an owner")


def _require_distinct(part: MixturePart) -> None:
    """Check that no two modalities of a part have the same name in the mixture."""
    owners: dict[str, str] = {}
    for modality in part.source.modalities:
        name = part.name_of(modality)
        other = owners.setdefault(name, modality)
        if other != modality:
            raise ConfigError(
                f"part {part.label!r}: modalities {other!r} and {modality!r} would both be called "
                f"{name!r} in the mixture; expected a name of its own for each; change rename"
            )


def _ambiguous(part: MixturePart, name: str, what: str) -> ConfigError:
    own = next(it for it in part.source.modalities if part.name_of(it) == name)
    return ConfigError(
        f"modality {name!r} of part {part.label!r} {what} in another part; give it another name, "
        f'as rename = {{ {own} = "{part.label}_{name}" }}'
    )


def _shape_for(part: MixturePart, shape: EpisodeShape) -> EpisodeShape:
    """Return the shape of a part's episodes, in which modalities have the part's own names.

    Raises:
        ConfigError: the part has none of the modalities that the episodes must show.
    """
    return replace(
        shape,
        parts=(),
        support_modalities=_own(part, shape.support_modalities),
        query_modalities=_own(part, shape.query_modalities),
    )


def _own(part: MixturePart, modalities: tuple[str, ...]) -> tuple[str, ...]:
    own = part.own(modalities)
    if modalities and not own:
        raise ConfigError(
            f"none of the modalities {list(modalities)} that are to be shown is of part "
            f"{part.label!r}; leave the part out by parts"
        )
    return own


def _renamed(part: MixturePart, examples: ExampleSet) -> ExampleSet:
    if not part.names:
        return examples
    names = {presence_key(old): presence_key(new) for old, new in part.names.items()}
    names.update(part.names)
    inputs: dict[str, Tensor] = {names.get(n, n): value for n, value in examples.inputs.items()}
    return ExampleSet(inputs, examples.targets)
