"""Classification episodes that are not ordinary, for example with uneven shots.

Items are sorted by class. The order of draws is part of the format. The order begins like that of
ordinary episodes (``metafleet.episodes.classes``):

1. ``rng.sample`` draws ``n_way`` different classes from the classes that can fill the episode.
2. With uneven shots, ``drawing.uneven_shots`` draws the number of support examples of each class.
3. For each drawn class in turn, ``drawing.draw_items`` draws the items.
4. With a missing rate, ``masking.drop_modalities`` draws the modalities that each support example
   shows, and then the modalities that each query example shows.

Suppose that an episode differs from an ordinary one only by its missing rate. Its items are then
the same as those of the ordinary episode at the same address.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from metafleet.episode import (
    CLASS_TEXT,
    Episode,
    EpisodeShape,
    ExampleSet,
    presence_key,
)
from metafleet.episodes.class_names import count_leaks, name_bytes
from metafleet.episodes.drawing import Candidates, draw_items, uneven_shots
from metafleet.episodes.items import ClassRows, Modality, Rows, draw_views, view_counts
from metafleet.episodes.masking import drop_modalities, shown_modalities
from metafleet.errors import ConfigError
from metafleet.seeds import CounterRng

_ROWS_AT_ONCE = 1024


class SpecialEpisodes:
    """Checks and draws episodes with a shape that is not ordinary (``EpisodeShape.special``).

    Args:
        modalities: the modalities of an example, in the order of ``inputs``.
        splits: split -> its classes.
        class_names: split -> names of its classes in the same order; None if classes have no names.
        class_texts: class -> features of its name, [d]; None to show the bytes of names.
        name: the data set's name, for messages.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        splits: Mapping[str, Sequence[ClassRows]],
        class_names: Mapping[str, Sequence[str]] | None,
        class_texts: Mapping[str, Tensor] | None = None,
        *,
        name: str,
    ) -> None:
        self._modalities, self._splits, self._name = modalities, splits, name
        self._class_names, self._class_texts = class_names, class_texts
        self._candidates: dict[tuple[str, EpisodeShape], tuple[Candidates, ...]] = {}
        self._leaks: dict[tuple[str, str], int] = {}

    def check(self, split: str, shape: EpisodeShape) -> None:
        """Check that a shape is consistent, and that ``split`` can fill it.

        Raises:
            ConfigError: the shape is inconsistent or cannot be filled. The message names the field
                and what to change.
        """
        self._check_fields(shape)
        if shape.class_text:
            self._check_names(split, shape)
        found = self._eligible(split, shape)
        if shape.n_way > len(found):
            shown = ", ".join(f"{name}={value!r}" for name, value in shape.special().items())
            raise ConfigError(
                f"n_way={shape.n_way}, k_shot={shape.k_shot} and n_query={shape.n_query} with "
                f"{shown}, but split {split!r} of {self._name!r} has {len(found)} classes with "
                "items for that; lower n_query, k_shot or n_way"
            )

    def sample(self, split: str, shape: EpisodeShape, rng: CounterRng) -> Episode:
        """Draw the episode that ``rng`` addresses, support and query ordered by class."""
        eligible = self._eligible(split, shape)
        if shape.n_way > len(eligible):
            self.check(split, shape)
        drawn = [eligible[i] for i in rng.sample(len(eligible), shape.n_way)]
        shots = [shape.k_shot] * shape.n_way
        if shape.shots == "uneven":
            room = [len(c.support) - shape.n_query for c in drawn]
            shots = uneven_shots(room, shape, rng)
        support: list[int] = []
        query: list[int] = []
        for candidates, k_shot in zip(drawn, shots, strict=True):
            chosen, asked = draw_items(candidates, k_shot, shape.n_query, rng)
            support += chosen
            query += asked
        counts = view_counts(self._modalities, split)
        views = draw_views(counts, len(support) + len(query), rng)
        of_support = {name: numbers[: len(support)] for name, numbers in views.items()}
        of_query = {name: numbers[len(support) :] for name, numbers in views.items()}
        rate = shape.missing_rate
        inputs = [
            self._show(support, of_support, shape.support_modalities, rate, rng),
            self._show(query, of_query, shape.query_modalities, rate, rng),
        ]
        if shape.class_text:
            _add_names(inputs, torch.stack([self._text_of(split, c) for c in drawn]), shots)
        classes = torch.arange(shape.n_way)
        targets = (
            classes.repeat_interleave(torch.tensor(shots)),
            classes.repeat_interleave(shape.n_query),
        )
        return Episode(
            support=ExampleSet(inputs[0], targets[0]),
            query=ExampleSet(inputs[1], targets[1]),
            n_way=shape.n_way,
        )

    def _show(
        self,
        rows: list[int],
        views: Mapping[str, Rows],
        allowed: Sequence[str],
        rate: float,
        rng: CounterRng,
    ) -> dict[str, Tensor]:
        """Return the inputs of ``rows`` with a mask for each modality, zeros where it is absent."""
        names = list(self._modalities)
        may_show = [not allowed or name in allowed for name in names]
        present = [self._modalities[name].present for name in names]
        shown = drop_modalities(shown_modalities(present, rows, may_show), rate, rng)
        masks = torch.from_numpy(shown).to(torch.float32)
        inputs = {}
        for name, may, mask in zip(names, may_show, masks.T, strict=True):
            modality = self._modalities[name]
            if may:
                values = modality.read(rows, views.get(name))
                inputs[name] = values * mask.reshape(-1, *[1] * len(modality.shape))
            else:  # never shown, so skip reading the data
                inputs[name] = torch.zeros(len(rows), *modality.shape)
        return inputs | {presence_key(n): m.clone() for n, m in zip(names, masks.T, strict=True)}

    def _eligible(self, split: str, shape: EpisodeShape) -> tuple[Candidates, ...]:
        key = (split, shape)
        if key not in self._candidates:
            found = [self._of_class(i, rows, shape) for i, rows in enumerate(self._splits[split])]
            least = 1 if shape.shots == "uneven" else shape.k_shot
            able = [c for c in found if c.can_give(least, shape.n_query)]
            if shape.shots == "uneven":
                able = _with_room(able, shape)
            self._candidates[key] = tuple(able)
        return self._candidates[key]

    def _of_class(self, index: int, rows: ClassRows, shape: EpisodeShape) -> Candidates:
        everything = range(rows.start, rows.start + rows.count)
        support = self._showing(everything, shape.support_modalities)
        same = shape.support_modalities == shape.query_modalities
        query = support if same else self._showing(everything, shape.query_modalities)
        return Candidates(index, support, query)

    def _showing(self, rows: range, allowed: Sequence[str]) -> Sequence[int]:
        """Return the rows that have any of the allowed modalities."""
        masks = [self._modalities[name].present for name in allowed]
        if not allowed or any(mask is None for mask in masks):
            return rows
        has_any = np.any([m[rows.start : rows.stop] for m in masks if m is not None], axis=0)
        return tuple((rows.start + np.flatnonzero(has_any)).tolist())

    def _text_of(self, split: str, candidates: Candidates) -> Tensor:
        """Return the features or the bytes of a class's name, [d]."""
        assert self._class_names is not None  # ``check`` made sure
        name = self._class_names[split][candidates.index]
        return name_bytes(name) if self._class_texts is None else self._class_texts[name]

    def _check_fields(self, shape: EpisodeShape) -> None:
        if not 0.0 <= shape.missing_rate < 1.0:
            raise ConfigError(f"missing_rate={shape.missing_rate}; expected 0 or more, less than 1")
        if shape.parts:
            raise ConfigError(
                f"parts={list(shape.parts)} but data set {self._name!r} is no mixture; remove it"
            )
        for option in ("support_modalities", "query_modalities"):
            for modality in getattr(shape, option):
                if modality not in self._modalities:
                    known = ", ".join(map(repr, self._modalities))
                    raise ConfigError(f"{option} holds {modality!r}; the data have {known}")
        if shape.shots == "uneven" and (shape.support_modalities or shape.query_modalities):
            raise ConfigError(
                "shots='uneven' with support_modalities or query_modalities; "
                "expected shots='even' with them"
            )

    def _check_names(self, split: str, shape: EpisodeShape) -> None:
        """Check that class names are known, and that queries do not reveal them."""
        if self._class_names is None:
            raise ConfigError(f"class_text=true but data set {self._name!r} has no class names")
        for modality, values in self._modalities.items():
            asked = not shape.query_modalities or modality in shape.query_modalities
            if not asked:
                continue
            if values.is_text_features:
                raise ConfigError(
                    f"class_text=true but modality {modality!r} is features of texts, which "
                    "cannot be searched for the name of their class, so a query might tell it; "
                    f"leave {modality!r} out of query_modalities, set class_text=false, or keep "
                    'the texts themselves (encoder = "bytes")'
                )
            n_leaks = self._count_leaks(split, modality) if values.is_text else 0
            if n_leaks:
                raise ConfigError(
                    f"class_text=true but {n_leaks} items of split {split!r} say the name of "
                    f"their class in modality {modality!r}, so a query would tell its class; "
                    f"leave {modality!r} out of query_modalities, or set class_text=false"
                )

    def _count_leaks(self, split: str, modality: str) -> int:
        key = (split, modality)
        if key not in self._leaks:
            assert self._class_names is not None  # the caller checked
            classes = self._splits[split]
            rows = [row for c in classes for row in range(c.start, c.start + c.count)]
            owners = [i for i, c in enumerate(classes) for _ in range(c.count)]
            texts = self._texts(modality, rows)
            self._leaks[key] = count_leaks(
                self._class_names[split], zip(owners, texts, strict=True)
            )
        return self._leaks[key]

    def _texts(self, modality: str, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield the bytes of the rows' texts, in chunks: as floats they are four times as large."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            values = self._modalities[modality].gather(rows[start : start + _ROWS_AT_ONCE])
            yield from values.to(torch.uint8).tolist()


def _with_room(able: list[Candidates], shape: EpisodeShape) -> list[Candidates]:
    """Drop the smallest classes until any ``n_way`` of the rest can fill a support set."""
    able = sorted(able, key=lambda c: (-len(c.support), c.index))
    while len(able) >= shape.n_way:
        room = sum(len(c.support) - shape.n_query for c in able[-shape.n_way :])
        if room >= shape.n_way * shape.k_shot:
            break
        able.pop()
    return sorted(able, key=lambda c: c.index)


def _add_names(inputs: list[dict[str, Tensor]], rows: Tensor, shots: list[int]) -> None:
    """Add each class's name [d] to its support examples, and mark it absent in queries."""
    support, query = inputs
    support[CLASS_TEXT] = rows.repeat_interleave(torch.tensor(shots), dim=0)
    support[presence_key(CLASS_TEXT)] = torch.ones(len(support[CLASS_TEXT]))
    n_query = len(next(iter(query.values())))
    query[CLASS_TEXT] = torch.zeros(n_query, rows.shape[1])
    query[presence_key(CLASS_TEXT)] = torch.zeros(n_query)
