"""A model that is adapted to new classes, or to one function, and predicts."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from metafleet.calibration.calibration import Calibration, ShapeCalibration, mean_shots
from metafleet.calibration.held_out import hold_out
from metafleet.calibration.temperature import probabilities
from metafleet.data.summary import Progress, no_progress
from metafleet.episode import ExampleSet, is_kept_support, keep_support, kept_support
from metafleet.errors import DataError, MetafleetError, ModelError, NumericsError
from metafleet.inference.class_text import without_class_text
from metafleet.inference.doubts import Doubter
from metafleet.inference.given_tensors import check_inputs, check_support
from metafleet.inference.items import ReadOptions, check_invert, open_items, with_separator
from metafleet.inference.kept_model import KeptModel, Learned
from metafleet.inference.labelling import Labelling, check_question, label_rows
from metafleet.inference.prediction import Prediction, Predictions, Value
from metafleet.inference.regression_table import read_points
from metafleet.inference.requirements import Needs
from metafleet.inference.sameness import same_items, without_copies
from metafleet.inference.trial import write_tried
from metafleet.learners.memory import predict_from
from metafleet.params import Params
from metafleet.purity.process_state import kept_as_it_is, seed_generators
from metafleet.seeds import CounterRng

BATCH_ITEMS = 256
"""Maximum number of items per forward pass; it bounds the memory."""
MOST_SUPPORT_BYTES: Final = 1 << 26
"""Maximum size of a support set that is saved with a model: 64 MiB."""


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """A model that predicts classes or values. It is immutable and safe to share between threads.

    Attributes:
        learned: the trained model.
        memory: the result of adapting to the support set.
        classes: class -> number of its support examples, in the order of the logits; empty in
            regression.
        needs: the modalities that items must have.
        notes: what was decided and what was left out when the support set was read. Notes are not
            saved.
        support: the support set, to which corrections can be added; None if the model does not keep
            it.
        sample: inputs of some support examples, with which a saved model is tested. The sample
            itself is not saved.
        difficulty: difficulty of the support set, in log odds. Label sets depend on the difficulty.
            None if the model's calibration does not use the difficulty.
    """

    learned: Learned
    memory: Params
    classes: Mapping[str, int]
    needs: Needs
    notes: tuple[str, ...] = ()
    support: ExampleSet | None = field(default=None, repr=False, compare=False)
    sample: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    difficulty: float | None = None

    @property
    def batch_norm(self) -> str:
        """Batch norm mode; with "transductive", the batch's own statistics normalise each item."""
        return self.learned.learner.batch_norm

    @property
    def calibration(self) -> ShapeCalibration | None:
        """The calibration for the shape nearest to the support set; None without calibration."""
        found = self._calibration
        return found.nearest(len(self.classes), mean_shots(self.classes)) if found else None

    @property
    def temperature(self) -> float:
        """The number by which logits are divided before the softmax."""
        found = self.calibration
        return 1.0 if found is None else found.temperature

    @property
    def _calibration(self) -> Calibration | None:
        return self.learned.calibration if self.classes else None

    def with_calibration(self, calibration: Calibration) -> "AdaptedModel":
        """Return the same model with another calibration.

        Raises:
            NumericsError: an adaptation to a part of the support set diverged.
        """
        return replace(self, learned=replace(self.learned, calibration=calibration)).measured()

    def measured(self) -> "AdaptedModel":
        """Return the same model with the difficulty of its support set.

        If an example has copies, only one of them is used. Each copy makes the others easy to
        classify, so with copies, the support set would look easier than it is.

        Raises:
            NumericsError: an adaptation to a part of the support set diverged.
        """
        relative = self.calibration.relative if self.calibration else None
        if relative is None or self.support is None:
            return replace(self, difficulty=None)
        own, learner = without_copies(self.support), self.learned.learner
        with kept_as_it_is():
            seed_generators(CounterRng(0, "held_out"))
            held_out = hold_out(learner, self.learned.state, own, len(self.classes))
        return replace(self, difficulty=held_out.difficulty(relative.temperature))

    @property
    def keeps_support(self) -> bool:
        """Whether the support set is small enough to be saved with the model."""
        tensors = keep_support(self.support).values() if self.support else ()
        return 0 < sum(tensor.nbytes for tensor in tensors) <= MOST_SUPPORT_BYTES

    def without_support(self) -> "AdaptedModel":
        """Return the same model without the support set, so that a saved model has no examples.

        Raises:
            ModelError: the learner reads the support set for each query, or it normalises the
                support set together with the queries.
        """
        if is_kept_support(self.memory):
            raise ModelError(
                f"learner {self.learned.blueprint.learner['name']!r} with batch norm "
                f"{self.batch_norm!r} reads its support set with each query, so the model cannot "
                "do without; adapt with --batch-norm support, or by a learner such as 'protonet'"
            )
        return replace(self, support=None, sample={})

    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return logits [n, classes], or values [n, d], for inputs (modality -> float [n, *shape]).

        Raises:
            DataError: a modality is missing or unknown, or a tensor does not have the form that
                inputs had in training.
            ModelError: the model's files do not belong to one model.
        """
        if not torch.compiler.is_exporting():  # a graph cannot depend on the values of its inputs
            check_inputs(self.learned.blueprint.problem, self.needs, inputs)
        return self._outputs(inputs)

    def _outputs(self, inputs: Mapping[str, Tensor]) -> Tensor:
        inputs = without_class_text(self.learned.blueprint.problem, inputs)
        state, n_way = self.learned.state, len(self.classes)
        try:
            return predict_from(self.learned.learner, state, self.memory, inputs, n_way)
        except MetafleetError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            if torch.compiler.is_exporting():
                raise  # the exporter uses these errors to report unsupported operations
            first = next(iter(str(error).splitlines()), "")
            raise ModelError(
                f"learner {self.learned.blueprint.learner['name']!r} cannot predict: "
                f"{type(error).__name__} ({first:.100}); if its files were changed, adapt it again"
            ) from error

    def predict(
        self,
        items: str | Path | Mapping[str, Tensor],
        options: ReadOptions | None = None,
        *,
        coverage: float | None = None,
        unknown: bool = False,
        threshold: float | None = None,
        progress: Progress = no_progress,
    ) -> Predictions:
        """Predict a folder or manifest of files, a table of points, or tensors.

        Args:
            items: a path, or modality -> float32 [n, *shape] as in training.
            options: how to read a folder.
            coverage: probability in (0, 1). If given, the result also has label sets that contain
                the correct label with this probability.
            unknown: whether to detect items that belong to none of the classes.
            threshold: for models of items with several labels, the minimum probability at which an
                item gets a label. None selects 0.5.
            progress: called with the progress of decoding.

        Raises:
            DataError: an item is broken, or lacks a modality that the model needs.
            NumericsError: an output is not finite.
            ModelError: the model's files do not belong to one model.
            ConfigError: ``options.invert`` is set but the model uses no pictures, or ``coverage``
                is out of range.
        """
        is_doubted = coverage is not None or unknown
        check_question(self.learned.blueprint.problem, threshold, is_doubted=is_doubted)
        doubter = Doubter.of(
            self.classes,
            self._calibration,
            coverage=coverage,
            unknown=unknown,
            has_run=bool(self.learned.origin.run),
            difficulty=self.difficulty,
        )
        if isinstance(items, Mapping):
            check_inputs(self.learned.blueprint.problem, self.needs, items)
            names = [str(number) for number in range(len(next(iter(items.values()))))]
            outputs = self._in_batches(items, len(names))
            rows = self._rows(names, None, outputs, doubter, threshold)
            return Predictions(rows, doubter.notes)
        separator = self.learned.blueprint.problem.label_separator
        options = with_separator(options or ReadOptions(), separator)
        check_invert(options, self.learned.blueprint.inputs, self.needs)
        if options.invert:
            swapped = self.learned.blueprint.with_light_and_dark_swapped()
            model = replace(self, learned=replace(self.learned, blueprint=swapped))
            as_it_is = replace(options, invert=False)
            return model.predict(
                items,
                as_it_is,
                coverage=coverage,
                unknown=unknown,
                threshold=threshold,
                progress=progress,
            )
        path = Path(items).expanduser()
        if self.learned.blueprint.problem.is_regression:
            points = read_points(path, self.learned.blueprint.problem, is_labelled=False)
            outputs = self._in_batches(points.inputs, len(points.names))
            return Predictions(self._rows(points.names, None, outputs, doubter, threshold))
        with open_items(
            path,
            self.learned.blueprint.inputs,
            self.needs,
            options,
            is_labelled=False,
            progress=progress,
        ) as found:
            logits, n_known = [], 0
            for chosen in batches(len(found)):
                inputs = found.inputs(chosen)
                logits.append(self.logits(inputs))
                n_known += self._count_known(inputs)
            rows = self._rows(found.names, found.labels, torch.cat(logits), doubter, threshold)
            return Predictions(
                rows, (*found.notes, *_about_known(n_known, len(found)), *doubter.notes)
            )

    def save(self, folder: str | Path, *, force: bool = False, with_encoder: bool = False) -> None:
        """Write the model to a folder for ``load_model``; with ``force``, replace an existing one.

        The new folder is read back and tested before it is moved into place. With ``with_encoder``,
        the weights of pretrained encoders are copied into the folder, so that machines without
        these weights can use the model.

        Raises:
            ModelError: the folder exists or cannot be written, or reading it back gives a different
                model.
        """
        support = keep_support(self.support) if self.support and self.keeps_support else {}
        kept = KeptModel(
            self.learned, self.memory, self.classes, self.needs, support, self.difficulty
        )
        write_tried(
            kept, Path(folder), _answer, force=force, sample=self.sample, with_encoder=with_encoder
        )

    def _count_known(self, inputs: Mapping[str, Tensor]) -> int:
        """Return how many items are examples that the model was adapted to."""
        if self.support is None:
            return 0
        same = same_items(self.support, inputs, self.learned.blueprint.inputs)
        return int(same.any(dim=1).sum())

    def _in_batches(self, inputs: Mapping[str, Tensor], n_items: int) -> Tensor:
        parts = [slice(rows.start, rows.stop) for rows in batches(n_items)]
        return torch.cat(
            [self._outputs({name: v[part] for name, v in inputs.items()}) for part in parts]
        )

    def _rows(
        self,
        names: Sequence[str],
        given: Sequence[str] | None,
        outputs: Tensor,
        doubter: Doubter,
        threshold: float | None,
    ) -> tuple[Prediction | Labelling | Value, ...]:
        _check_finite(names, outputs)
        if not self.classes:
            values = outputs.tolist()
            return tuple(Value(name, tuple(row)) for name, row in zip(names, values, strict=True))
        classes = list(self.classes)
        if outputs.shape[1] != len(classes):
            raise ModelError(
                f"the model has {outputs.shape[1]} outputs and {len(classes)} classes; its files "
                "do not belong together: make it again"
            )
        separator = self.learned.blueprint.problem.label_separator
        if separator:
            return label_rows(
                names, given, outputs, classes, separator=separator, threshold=threshold
            )
        shares = probabilities(outputs, self.temperature)
        best = shares.argmax(dim=1).tolist()
        labels = given or [""] * len(names)
        rows = zip(names, labels, best, shares.tolist(), doubter.doubts(outputs), strict=True)
        return tuple(
            Prediction(name, classes[i], row[i], dict(zip(classes, row, strict=True)), label, doubt)
            for name, label, i, row, doubt in rows
        )


def adapted_from(kept: KeptModel) -> AdaptedModel:
    """Return the adapted model that a ``KeptModel`` holds."""
    assert kept.needs is not None
    support = _support_of(kept) if kept.support else None
    return AdaptedModel(
        kept.learned,
        kept.memory,
        kept.classes,
        kept.needs,
        support=support,
        difficulty=kept.difficulty,
    )


def _support_of(kept: KeptModel) -> ExampleSet:
    assert kept.needs is not None
    try:
        support = kept_support(kept.support)
        check_support(kept.learned.blueprint.problem, kept.needs, support, len(kept.classes))
    except (KeyError, IndexError, DataError) as error:
        raise ModelError(
            f"the support set of the model is damaged ({error!s:.120}); adapt it again"
        ) from error
    return support


def _answer(kept: KeptModel, inputs: Mapping[str, Tensor]) -> Tensor:
    return adapted_from(kept).logits(inputs)


def _about_known(n_known: int, n_items: int) -> list[str]:
    if n_known == 0:
        return []
    return [
        f"{n_known} of {n_items} items are examples that the model was adapted to; judge it on "
        "other items"
    ]


def _check_finite(names: Sequence[str], outputs: Tensor) -> None:
    is_wrong = ~outputs.isfinite().all(dim=1)
    if is_wrong.any():
        first = int(is_wrong.nonzero()[0])
        raise NumericsError(
            f"the model's outputs of item {names[first]!r} are {outputs[first].tolist()!s:.80}, of "
            f"{int(is_wrong.sum())} of {len(names)} items not finite; expected numbers: look "
            "whether the item is as in training, or adapt again from another state"
        )


def batches(n_items: int, at_most: int = BATCH_ITEMS) -> Iterator[range]:
    """Split items into the fewest batches of nearly equal size, so that none has only a few."""
    n_batches = max(1, -(-n_items // at_most))
    ends = [n_items * i // n_batches for i in range(n_batches + 1)]
    for start, end in itertools.pairwise(ends):
        yield range(start, end)
