"""Draws episodes of an evaluation again: the same items, the same state, the same predictions.

An episode depends only on the run's seed, the split and the episode's number. So nothing but the
results of each episode is stored, and everything else is computed again. The accuracy of the
episode that is drawn must equal the recorded accuracy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from metafleet.contracts.settings import Settings
from metafleet.data.decoding.shown import Shown
from metafleet.data.stored_items import ItemsOfParts, StoredItems, open_items
from metafleet.db.records import EpisodeResultsRecord, RunRecord
from metafleet.episode import CLASS_TEXT, Episode, ExampleSet, is_presence_key, presence_key
from metafleet.episodes.sampled_rows import SampledRows
from metafleet.errors import ConfigError, DataError
from metafleet.orchestrator.redraw.drawn import DrawnEpisode, DrawnItem
from metafleet.orchestrator.redraw.evaluated import changes_in
from metafleet.orchestrator.runs.learned_work import open_learned_work
from metafleet.orchestrator.training.contenders import Contender, baselines_of
from metafleet.params import MetaState
from metafleet.seeds import CounterRng
from metafleet.workload import Workload

_MOST_INPUTS: Final = 12
"""Inputs with more values are not written out."""
_TRAINED: Final = "trained"
_STEP: Final = 0
"""The outer step in the addresses of an evaluation's episodes."""


@dataclass(frozen=True, slots=True)
class Redraw:
    """An evaluation whose episodes can be drawn again.

    Attributes:
        record: the results of the evaluation.
        workload: the workload that evaluates the state.
        state: the evaluated state.
        items: the stored items.
    """

    record: EpisodeResultsRecord
    workload: Workload
    state: MetaState
    items: ItemsOfParts

    @classmethod
    def open(
        cls,
        settings: Settings,
        run: RunRecord,
        record: EpisodeResultsRecord,
        notify: Callable[[str], None],
    ) -> "Redraw":
        """Open the data and the state of an evaluation.

        Raises:
            CheckpointError: the run has no checkpoint on this host.
            DataMissingError: the run's data are not on this machine.
            DataCorruptError: the data are not those of the run.
            ConfigError: the evaluated state or the evaluation's episodes are not known any more.
        """
        work = open_learned_work(
            settings, run, split=record.split, overrides=changes_in(record), notify=notify
        )
        evaluated = record.label.partition(", ")[0]
        workload, state = work.workload, work.state
        if evaluated == _TRAINED:
            if record.step != work.step:
                raise ConfigError(
                    f"run {run.id} keeps the state of step {work.step}, but the evaluation was of "
                    f"step {record.step}, whose state is gone; evaluate again with `metafleet "
                    f"evaluate {run.id} --split {record.split}`"
                )
        else:
            baseline = _baseline(workload, evaluated)
            state = baseline.state
            if baseline.spec != workload.spec:
                workload = Workload.bind(
                    baseline.spec,
                    workload.source,
                    allowed_packages=settings.allowed_packages,
                )
        allowed = settings.allowed_packages
        items = open_items(workload.spec.data, settings.data_dir, allowed_packages=allowed)
        return cls(record, workload, state, items)

    def answer(self, index: int) -> tuple[Episode, Tensor, float | None, float]:
        """Compute an episode: the episode, its outputs for the query set, accuracy and loss."""
        split = self.record.split
        episode, answer = self.workload.answer(self.state, split=split, step=_STEP, index=index)
        metrics = answer.metrics
        return episode, answer.outputs.detach().double(), metrics.accuracy, metrics.loss

    def rows(self, index: int) -> SampledRows | None:
        """Return the classes and rows of an episode; None if its examples are computed."""
        draw = getattr(self.workload.source, "sample_rows", None)
        if draw is None:
            return None
        split, spec = self.record.split, self.workload.spec
        found: SampledRows | None = draw(
            split, spec.episodes[split], CounterRng(spec.seed, split, _STEP, index)
        )
        return found

    def draw(self, index: int) -> DrawnEpisode:
        """Draw an episode again, with its items and predictions.

        Raises:
            ConfigError: the evaluation has no such episode.
        """
        if not 0 <= index < len(self.record.losses):
            raise ConfigError(
                f"episode {index} of {len(self.record.losses)}; expected 0 to "
                f"{len(self.record.losses) - 1}"
            )
        episode, outputs, accuracy, loss = self.answer(index)
        rows = self.rows(index)
        items = self.items.parts.get(rows.part) if rows else None
        accuracies = self.record.accuracies
        return DrawnEpisode(
            index=index,
            classes=rows.classes if rows else tuple(map(str, range(episode.n_way))),
            support=_items(episode.support, rows.support if rows else (), items, None),
            query=_items(episode.query, rows.query if rows else (), items, outputs),
            loss=loss,
            accuracy=accuracy,
            recorded_loss=self.record.losses[index],
            recorded_accuracy=accuracies[index] if accuracies else None,
        )


def _baseline(workload: Workload, label: str) -> Contender:
    for baseline in baselines_of(workload.spec, workload):
        if baseline.label == label:
            return baseline
    raise ConfigError(f"there is no state {label!r:.80} of this run; expected {_TRAINED!r}")


def probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the probability of each class, or of each label if items may have several."""
    return outputs.sigmoid() if targets.dim() == 2 else outputs.softmax(dim=1)


def _items(
    examples: ExampleSet,
    rows: Sequence[int],
    items: StoredItems | None,
    outputs: Tensor | None,
) -> tuple[DrawnItem, ...]:
    stored = items.stored_rows(rows) if items else [None] * len(examples)
    if examples.targets.is_floating_point() and examples.targets.dim() == 2 and not rows:
        return tuple(_point(examples, i, outputs) for i in range(len(examples)))
    shares = None if outputs is None else probabilities(outputs, examples.targets)
    has_one = examples.targets.dim() == 1
    found = []
    for i, row in enumerate(stored):
        shown, notes = _shown(examples, i, row, items)
        found.append(
            DrawnItem(
                row=row,
                targets=_targets(examples.targets[i]),
                shown=shown,
                notes=notes,
                predicted=int(shares[i].argmax()) if shares is not None and has_one else None,
                probabilities=() if shares is None else tuple(shares[i].tolist()),
            )
        )
    return tuple(found)


def _targets(target: Tensor) -> tuple[int, ...]:
    if target.dim() == 0:
        return (int(target),)
    return tuple(torch.nonzero(target).flatten().tolist())


def _point(examples: ExampleSet, i: int, outputs: Tensor | None) -> DrawnItem:
    """Return an example of regression."""
    inputs = [values[i].flatten() for values in examples.inputs.values()]
    joined = torch.cat(inputs).tolist()
    return DrawnItem(
        row=None,
        targets=(),
        inputs=tuple(joined) if len(joined) <= _MOST_INPUTS else (),
        values=tuple(examples.targets[i].flatten().tolist()),
        outputs=() if outputs is None else tuple(outputs[i].flatten().tolist()),
    )


def _shown(
    examples: ExampleSet, i: int, row: int | None, items: StoredItems | None
) -> tuple[dict[str, Shown | None], dict[str, str]]:
    shown: dict[str, Shown | None] = {}
    notes: dict[str, str] = {}
    own = items.modalities if items else {}
    for name in examples.inputs:
        if is_presence_key(name) or name == CLASS_TEXT:
            continue
        mask = examples.inputs.get(presence_key(name))
        if mask is not None and not bool(mask[i]):
            shown[name] = None
            continue
        if items is None or row is None:
            notes[name] = "the example is computed, so there is no stored item"
            continue
        try:
            shown[name] = items.show(own[name], row)
        except DataError as error:
            notes[name] = str(error)
    return shown, notes
