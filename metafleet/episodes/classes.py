"""Sample N-way K-shot episodes. An episode depends only on its address.

The address is the ``CounterRng`` (run seed, split, outer step, episode). The order of draws is part
of the format, because another order would give different episodes for the same address:

1. ``rng.sample`` draws ``n_way`` different classes. It draws from the classes of the split that
   have at least ``k_shot + n_query`` items, in the data set's order.
2. For each drawn class in turn, ``rng.sample`` draws ``k_shot + n_query`` different items. The
   first ``k_shot`` are support examples, the rest are queries.

If a modality has several views, meta-training also draws a view of each item. These draws are from
a separate stream of random numbers at the same address (``metafleet.episodes.items.draw_views``).

``metafleet.episodes.special`` extends this order for episodes that are not ordinary.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metafleet.episode import (
    CLASS_TEXT,
    META_TRAIN,
    Episode,
    EpisodeShape,
    ExampleSet,
    is_modality_name,
)
from metafleet.episodes.items import (
    ClassRows,
    ItemSource,
    Modality,
    draw_views,
    gather_rows,
    mean_example,
    view_counts,
)
from metafleet.episodes.many import EligibleClasses, ManyEpisodes
from metafleet.episodes.sampled_rows import SampledRows, numbered, owners, rows_in
from metafleet.episodes.source import check_counts
from metafleet.episodes.special import SpecialEpisodes
from metafleet.errors import ConfigError
from metafleet.params import Params
from metafleet.seeds import CounterRng


class ClassEpisodeSource(ItemSource):
    """Classification episodes from items that are sorted by class.

    Args:
        modalities: the modalities of an example, in the order of ``inputs``.
        splits: split -> its classes. The order of the classes must never change.
        name: the data set's name, for messages.
        class_names: split -> names of its classes in the same order, for episodes that show class
            names.
        class_texts: class -> features of its name, [d]. Episodes that show class names have these
            features in place of the bytes of the names. With None, they have the bytes.
        more_classes: a function that takes n_way and returns advice, for messages, on how to get
            splits with at least n_way classes.

    Raises:
        ConfigError: the name of a modality is not allowed.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        splits: Mapping[str, Sequence[ClassRows]],
        *,
        name: str,
        class_names: Mapping[str, Sequence[str]] | None = None,
        class_texts: Mapping[str, Tensor] | None = None,
        more_classes: Callable[[int], str] | None = None,
    ) -> None:
        for modality in modalities:
            if not is_modality_name(modality):
                raise ConfigError(
                    f"modality {modality!r} of data set {name!r}; expected a name of letters, "
                    f"digits and _, and not {CLASS_TEXT!r}, which is that of class names; give it "
                    "another, of a folder by --column NAME=COLUMN"
                )
        self._more_classes = more_classes or (lambda n_way: "pick another split")
        super().__init__(modalities)
        self._splits = {split: tuple(classes) for split, classes in splits.items()}
        self._name, self._class_names = name, class_names
        self._special = SpecialEpisodes(
            self._modalities, self._splits, class_names, class_texts, name=name
        )
        self.class_text_size = len(next(iter(class_texts.values()))) if class_texts else None
        """Number of features of a class's name; None if episodes show its bytes."""
        self._eligible: dict[tuple[str, int], EligibleClasses] = {}
        self._targets: dict[tuple[int, int], Tensor] = {}
        self._numbered: ClassEpisodeSource | None = None

    def n_classes(self, split: str) -> int:
        """Return the number of classes in ``split``."""
        return len(self._classes(split))

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Check that ``split`` can fill episodes of this shape."""
        check_counts(shape)
        classes = self._classes(split)
        if shape.n_way < 2:
            raise ConfigError(
                f"n_way={shape.n_way} but data set {self._name!r} is classification; "
                "expected 2 or more (to regress, a table of yours is data set functions)"
            )
        if shape.n_way > len(classes):
            raise ConfigError(
                f"n_way={shape.n_way} but split {split!r} of {self._name!r} has {len(classes)} "
                f"classes; lower n_way or {self._more_classes(shape.n_way)}"
            )
        if not shape.is_ordinary:
            self._special.check(split, shape)
            return
        need = shape.k_shot + shape.n_query
        eligible = self._eligible_classes(split, need)
        if shape.n_way > len(eligible):
            most = max(rows.count for rows in classes)
            raise ConfigError(
                f"k_shot + n_query = {need} items for each of n_way={shape.n_way} classes, but "
                f"split {split!r} of {self._name!r} has {len(eligible)} classes so large "
                f"(the largest has {most} item{'' if most == 1 else 's'}); lower n_query, "
                "k_shot or n_way"
            )

    def training_mean(self, modality: str) -> Tensor:
        """Return the mean example over the items of meta-training that have the modality."""
        classes = self._splits.get(META_TRAIN, ())
        rows = [row for own in classes for row in range(own.start, own.start + own.count)]
        return mean_example(self._modalities[modality], rows)

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses, support and query ordered by class."""
        if not shape.is_ordinary:
            return self._special.sample(split, shape, rng)
        need = shape.k_shot + shape.n_query
        eligible = self._eligible_classes(split, need)
        if not 2 <= shape.n_way <= len(eligible) or shape.k_shot < 1 or shape.n_query < 1:
            self.check(split, shape)
        support: list[int] = []
        query: list[int] = []
        for items in eligible.draw(shape.n_way, rng):
            support += items[: shape.k_shot]
            query += items[shape.k_shot :]
        n_support, drawn_rows = len(support), support + query
        views = draw_views(view_counts(self._modalities, split), len(drawn_rows), rng)
        inputs = gather_rows(self._modalities, drawn_rows, views)
        return Episode(
            support=ExampleSet(
                {name: values[:n_support] for name, values in inputs.items()},
                self._class_targets(shape.n_way, shape.k_shot),
            ),
            query=ExampleSet(
                {name: values[n_support:] for name, values in inputs.items()},
                self._class_targets(shape.n_way, shape.n_query),
            ),
            n_way=shape.n_way,
        )

    def sample_rows(self, split: str, shape: EpisodeShape, rng: CounterRng) -> SampledRows:
        """Return the classes and rows of the episode that ``sample`` draws for the same address.

        A class without a name is called by its position in the split, from 0.
        """
        if self._numbered is None:
            self._numbered = ClassEpisodeSource(
                numbered(self._modalities),
                self._splits,
                name=self._name,
                class_names=self._class_names,
            )
        episode = self._numbered.sample(split, shape, rng)
        support, query = rows_in(episode.support), rows_in(episode.query)
        first = [support[episode.support.targets.tolist().index(i)] for i in range(shape.n_way)]
        names = None if self._class_names is None else self._class_names[split]
        classes = owners(self._splits[split], first)
        called = tuple(str(index) if names is None else names[index] for index in classes)
        return SampledRows(called, support, query)

    def sample_many(
        self, split: str, shape: EpisodeShape, rngs: Sequence[CounterRng]
    ) -> ManyEpisodes:
        """Draw the episode that ``sample`` draws for each address, with one read of the data.

        Args:
            split: split of the episodes.
            shape: an ordinary shape.
            rngs: addresses of the episodes. Nothing may have been drawn from them yet.

        Raises:
            ConfigError: for the same reasons as in ``check``, or because the shape is not ordinary.
        """
        if not shape.is_ordinary:
            shown = ", ".join(f"{name}={value!r}" for name, value in shape.special().items())
            raise ConfigError(f"{shown}; many episodes at once have a size only; use ``sample``")
        self.check(split, shape)
        need = shape.k_shot + shape.n_query
        eligible = self._eligible_classes(split, need)
        rows = eligible.draw_many(shape.n_way, rngs)
        counts = view_counts(self._modalities, split)
        drawn = [draw_views(counts, shape.n_way * need, rng) for rng in rngs]
        views = {name: np.array([each[name] for each in drawn]) for name in counts}
        n_support = shape.n_way * shape.k_shot
        support = {name: numbers[:, :n_support] for name, numbers in views.items()}
        query = {name: numbers[:, n_support:] for name, numbers in views.items()}
        return ManyEpisodes(
            self._gather_many(rows[:, :, : shape.k_shot], support),
            self._gather_many(rows[:, :, shape.k_shot :], query),
        )

    def _gather_many(
        self, rows: npt.NDArray[np.int64], views: Mapping[str, npt.NDArray[np.int64]]
    ) -> Params:
        flat = {name: numbers.ravel() for name, numbers in views.items()}
        inputs = gather_rows(self._modalities, rows.ravel(), flat)
        return {name: x.view(*rows.shape, *x.shape[1:]) for name, x in inputs.items()}

    def _classes(self, split: str) -> tuple[ClassRows, ...]:
        try:
            return self._splits[split]
        except KeyError:
            known = ", ".join(self._splits)
            raise ConfigError(
                f"data set {self._name!r} has no split {split!r}; its splits are: {known}"
            ) from None

    def _eligible_classes(self, split: str, need: int) -> EligibleClasses:
        key = (split, need)
        if key not in self._eligible:
            self._eligible[key] = EligibleClasses(self._classes(split), need)
        return self._eligible[key]

    def _class_targets(self, n_way: int, per_class: int) -> Tensor:
        key = (n_way, per_class)
        if key not in self._targets:
            self._targets[key] = torch.arange(n_way).repeat_interleave(per_class)
        return self._targets[key].clone()  # [n_way * per_class], a copy for the caller
