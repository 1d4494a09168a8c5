"""A trained model that can adapt to new classes."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from metafleet.calibration.calibration import Calibration
from metafleet.data.importing.class_names import find_twins
from metafleet.data.label_text import say_joined
from metafleet.data.summary import Progress, no_progress
from metafleet.episode import CLASS_TEXT, ExampleSet, presence_key
from metafleet.errors import ConfigError, DataError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.class_text import checked_names, with_class_text
from metafleet.inference.decoded_items import Items
from metafleet.inference.given_tensors import check_support, complete_support
from metafleet.inference.items import (
    ReadOptions,
    check_invert,
    names_in,
    open_items,
    with_separator,
)
from metafleet.inference.kept_model import KeptModel, Learned
from metafleet.inference.labelling import count_labels, label_targets
from metafleet.inference.model_record import ModelRecord
from metafleet.inference.provenance import Provenance
from metafleet.inference.regression_table import read_points
from metafleet.inference.requirements import Needs, Probe, find_needs
from metafleet.inference.sameness import first_of_equal
from metafleet.inference.state_layout import expected_layout, layout_of
from metafleet.inference.trial import write_tried
from metafleet.learners.base import Learner
from metafleet.learners.episodic import EpisodicLearner
from metafleet.learners.memory import memorise
from metafleet.learners.zero_shot import ZeroShot
from metafleet.models.batch_norm import AVERAGED, MODES
from metafleet.params import MetaState, Params

_SAMPLED = 8
_SEVERAL = (
    "each is one class here; if items have several labels, train a run on such data with "
    "--label-separator '{separator}', and adapt it"
)
"""Support examples that test a model when it is written."""


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """A meta-learned state and all that is needed to adapt it. The object is immutable.

    Attributes:
        learned: state, learner, blueprint and origin.
    """

    learned: Learned

    @classmethod
    def of(
        cls,
        blueprint: Blueprint,
        state: MetaState,
        origin: Provenance,
        allowed_packages: Sequence[str] = (),
        record: ModelRecord | None = None,
    ) -> "LearnedModel":
        """Build the blueprint's learner, and return the model with the given state.

        Raises:
            ConfigError: a name or option is wrong, or its package is not allowed.
        """
        learner = blueprint.build(allowed_packages)
        known = record or ModelRecord()
        return cls(Learned(blueprint, learner, state, origin, tuple(allowed_packages), known))

    def with_batch_norm(self, mode: str, allowed_packages: Sequence[str] = ()) -> "LearnedModel":
        """Return the model with a batch norm mode that may differ from the mode of training.

        A change from "transductive" to "support" makes the prediction for each item independent of
        the other items.

        Raises:
            ConfigError: the mode is unknown, or the mode needs running averages or parameters that
                the trained state does not have.
        """
        blueprint, state = self.learned.blueprint, self.learned.state
        blueprint = replace(blueprint, model={**blueprint.model, "batch_norm": mode})
        learner = blueprint.build(allowed_packages)
        kept = self._buffers_for(learner)
        if kept is None:
            trained = self.learned.learner.batch_norm
            why = (
                "needs running averages, which training with {} did not keep"
                if mode in AVERAGED and trained not in (*AVERAGED, "none")
                else "has other parameters than training with {} learned"
            )
            modes = ", ".join(repr(each) for each in self._modes_that_fit(allowed_packages))
            raise ConfigError(
                f"batch_norm={mode!r} {why.format(repr(trained))}; expected one of {modes}"
            )
        return LearnedModel(
            replace(
                self.learned,
                blueprint=blueprint,
                learner=learner,
                state=MetaState(state.params, kept),
                allowed_packages=tuple(allowed_packages),
                calibration=self._calibration_for(mode),
            )
        )

    def _calibration_for(self, mode: str) -> Calibration | None:
        """Return the calibration if it also holds with another batch norm mode."""
        is_same = mode == self.learned.learner.batch_norm
        return self.learned.calibration if is_same else None

    def _buffers_for(self, learner: Learner) -> Params | None:
        """Return the state's buffers that a learner needs; None if the state does not fit."""
        state, wanted = self.learned.state, expected_layout(learner)
        there = layout_of(state)
        params = {name for name in there if name.startswith("params.")}
        if not params <= wanted.keys() or any(there.get(n) != it for n, it in wanted.items()):
            return None
        return {name: it for name, it in state.buffers.items() if f"buffers.{name}" in wanted}

    def _modes_that_fit(self, allowed_packages: Sequence[str]) -> list[str]:
        found: list[str] = []
        for mode in MODES:
            model = {**self.learned.blueprint.model, "batch_norm": mode}
            with contextlib.suppress(ConfigError):  # such as from a learner without inner steps
                learner = replace(self.learned.blueprint, model=model).build(allowed_packages)
                if self._buffers_for(learner) is not None:
                    found.append(mode)
        return found

    def adapt(
        self,
        support: str | Path,
        options: ReadOptions | None = None,
        *,
        progress: Progress = no_progress,
    ) -> AdaptedModel:
        """Learn the classes of a folder or manifest, or the function of a table of points.

        The learner "zero_shot" only reads the names of the classes.

        Args:
            support: path of the labelled examples.
            options: how to read a folder.
            progress: called with the progress of decoding.

        Raises:
            DataError: an example is broken, lacks a modality that the model needs, or has no class.
            ConfigError: the learner cannot handle that many classes, or ``options.invert`` is set
                but the model uses no pictures.
            NumericsError: the adaptation diverged.
        """
        options = options or ReadOptions()
        needs = find_needs(self.learned.blueprint, self.learned.learner, self.learned.state)
        options = with_separator(options, self.learned.blueprint.problem.label_separator)
        if isinstance(self.learned.learner, ZeroShot):
            path = Path(support).expanduser()
            return self.adapt_to_names(names_in(path, self.learned.blueprint.inputs, options))
        check_invert(options, self.learned.blueprint.inputs, needs)
        # a model adapted before may have light and dark swapped for its previous support set
        blueprint = self.learned.blueprint.with_light_and_dark_as_trained()
        if options.invert:
            blueprint = blueprint.with_light_and_dark_swapped()
        own = LearnedModel(replace(self.learned, blueprint=blueprint))
        return own._adapt(Path(support).expanduser(), options, needs, progress)

    def _adapt(
        self, path: Path, options: ReadOptions, needs: Needs, progress: Progress
    ) -> AdaptedModel:
        blueprint = self.learned.blueprint
        if blueprint.problem.is_regression:
            points = read_points(path, blueprint.problem, is_labelled=True)
            if points.targets is None:
                raise DataError(f"{path} has no targets")
            return self.adapt_to(ExampleSet(points.inputs, points.targets), {}, needs)
        with open_items(
            path,
            blueprint.inputs,
            needs,
            options,
            is_labelled=True,
            progress=progress,
        ) as found:
            classes = self._classes(path, found, options.label_separator)
            targets = self._targets(found, list(classes), options.label_separator)
            inputs = found.inputs(range(len(found)))
        notes = [*found.notes, *_about_copies(found, first_of_equal(inputs))]
        if not options.label_separator:
            notes += say_joined(classes, _SEVERAL)
        inputs = with_class_text(blueprint, inputs, found.labels)
        model = self.adapt_to(ExampleSet(inputs, targets), classes, needs)
        return replace(model, notes=tuple(notes))

    def adapt_to_names(self, names: Sequence[str]) -> AdaptedModel:
        """Classify by the names of classes, without examples, with the learner "zero_shot".

        Args:
            names: 2 or more different names, in the order of the logits.

        Raises:
            ConfigError: the learner needs examples, or names are too few, equal, empty, not
                printable, or too long for the encoder.
            DataMissingError: the encoder is not on this machine.
            ModelError: the encoder on this machine is not that of the model.
        """
        learned = self._as_base()
        blueprint = learned.blueprint
        if not isinstance(learned.learner, ZeroShot):
            raise ConfigError(
                f"learner {blueprint.learner['name']!r} needs examples of each class, not only "
                "names; give a support set, or choose 'zero_shot'"
            )
        classes = checked_names(names)
        n = len(classes)
        nothing = {name: torch.zeros(n, *it.shape) for name, it in blueprint.inputs.items()}
        support = ExampleSet(with_class_text(blueprint, nothing, classes), torch.arange(n))
        memory = memorise(learned.learner, learned.state, support, n)
        needs = find_needs(blueprint, learned.learner, learned.state)
        return AdaptedModel(learned, memory, dict.fromkeys(classes, 0), needs)

    def adapt_to(
        self, support: ExampleSet, classes: dict[str, int], needs: Needs | None = None
    ) -> AdaptedModel:
        """Adapt to tensors.

        Args:
            support: inputs as in training; targets are indices into ``classes``, or values.
            classes: class -> number of its examples, in order; {} in regression.
            needs: the modalities that items must have. By default, ``find_needs`` determines them.

        Raises:
            DataError: the tensors do not have the form that inputs and targets had in training.
            ConfigError: the learner cannot handle that many classes.
            NumericsError: the adaptation diverged.
        """
        learned = self._as_base()
        problem = learned.blueprint.problem
        self._check_number(len(classes))
        needs = needs or find_needs(learned.blueprint, learned.learner, learned.state)
        check_support(problem, needs, support, len(classes))
        support = complete_support(problem, needs, support)
        if learned.blueprint.class_text is not None and CLASS_TEXT not in support.inputs:
            labels = [list(classes)[number] for number in support.targets.tolist()]
            inputs = with_class_text(learned.blueprint, support.inputs, labels)
            support = ExampleSet(inputs, support.targets)
        memory = memorise(learned.learner, learned.state, support, len(classes))
        sample = {
            name: values[:_SAMPLED]
            for name, values in support.inputs.items()
            if name not in (CLASS_TEXT, presence_key(CLASS_TEXT))
        }
        # corrections are of one class an item
        kept = support if classes and not problem.is_multi_label else None
        model = AdaptedModel(learned, memory, classes, needs, support=kept, sample=sample)
        return model.measured()

    def save(self, folder: str | Path, *, force: bool = False, with_encoder: bool = False) -> None:
        """Write the state to a folder for ``load_model``; with ``force``, replace an existing one.

        The new folder is read back and tested before it is moved into place. With ``with_encoder``,
        the weights of pretrained encoders are copied into the folder, so that machines without
        these weights can use the model.

        Raises:
            ModelError: the folder exists or cannot be written, or reading it back gives a different
                model.
        """
        write_tried(
            KeptModel(self.learned), Path(folder), _answer, force=force, with_encoder=with_encoder
        )

    def _as_base(self) -> Learned:
        """Return the result for an adapted model to keep; its record names the base model."""
        record = replace(self.learned.record, adapted_from=self.learned.digest)
        return replace(self.learned, record=record, digest="")

    def _targets(self, found: Items, classes: Sequence[str], separator: str) -> Tensor:
        if separator:
            return label_targets(found.labels, classes, separator)
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([numbers[label] for label in found.labels])

    def _classes(self, path: Path, found: Items, separator: str) -> dict[str, int]:
        if separator:
            classes = count_labels(found.labels, separator)
        else:
            classes = dict(Counter(found.labels))  # sorted, as the items are
        _refuse_twins(path, classes)
        if len(classes) < 2:
            lost = f", as no item of {found.lost[0]!r} can be used" if found.lost else ""
            raise DataError(
                f"{str(path)!r} has {len(classes)} class{lost}; expected 2 or more to tell apart"
            )
        return classes

    def _check_number(self, n_classes: int) -> None:
        """Check the number of classes against a head of fixed size."""
        learner = self.learned.learner
        n = learner.n_classes if isinstance(learner, EpisodicLearner) else None
        if n is not None and n != n_classes:
            raise ConfigError(
                f"the support set has {n_classes} classes, but learner "
                f"{self.learned.blueprint.learner['name']!r} learned {n} outputs and can take "
                f"exactly {n} classes; give {n}, or train a learner that takes any number, such as "
                "'protonet', 'r2d2' or 'protomaml'"
            )


def _answer(kept: KeptModel, inputs: Mapping[str, Tensor]) -> Tensor:
    learned = kept.learned
    return Probe(learned.blueprint, learned.learner, learned.state).outputs(inputs)


def _about_copies(found: Items, first: Sequence[int]) -> list[str]:
    """Return a note on examples that are copies of other examples.

    Args:
        found: the examples.
        first: for each example, the number of the first example with the same content.
    """
    pairs = [(at, row) for row, at in enumerate(first) if at != row]
    if not pairs:
        return []
    across = [(at, row) for at, row in pairs if found.labels[at] != found.labels[row]]
    at, row = (across or pairs)[0]
    wrong = ", which has another class" if across else ""
    return [
        f"{len(pairs)} of {len(found)} examples are copies, such as {found.names[row]!r:.60} of "
        f"{found.names[at]!r:.60}{wrong}"
    ]


def _refuse_twins(path: Path, classes: dict[str, int]) -> None:
    for first, second in find_twins(classes):
        raise DataError(
            f"{path}: class {second!r} is there twice, also as {first!r}; give both one name, or "
            "names that differ in more than case and spaces"
        )
